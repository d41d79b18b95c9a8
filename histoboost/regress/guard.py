"""Checks of slides against the training slides: scale, novelty and mounting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warn
from histoboost.regress.baselines import CONSTANTS
from histoboost.regress.expression import COORDS, parse_features
from histoboost.regress.heads.base import Files
from histoboost.regress.layout import Layout
from histoboost.regress.novelty import Novelty, fit_novelty
from histoboost.regress.predictions import Prediction
from histoboost.regress.scale import Scale, measure_scale
from histoboost.regress.setup import Setup


@dataclass(frozen=True)
class Guard:
    """Scale of the training slides, and the novelty of spots if it can be judged."""

    scale: Scale
    novelty: Novelty | None

    def knows_mounting(self, setup: Setup) -> bool:
        """Whether a model can recognise the mounting of its training slides, and depends on it."""
        terms = [plain for term in parse_features(setup.features) for plain in term.plain]
        return self.novelty is not None and all(term.name != COORDS for term in terms)

    def judge(
        self,
        prediction: Prediction,
        store: EmbeddingStore,
        recipes: Mapping[str, Mapping[str, Any]],
    ) -> Prediction:
        """Add novelty and turn to a prediction, with warnings; `recipes` are those of the slide."""
        if (turn := turn_of(prediction.slide, recipes)) is not None:
            warn_of_turn(prediction.slide, turn)
            prediction = replace(prediction, turn=turn)
        if self.novelty is None:
            return prediction
        novelty, unlike = self.novelty.judge(store, prediction.spots)
        return replace(prediction, novelty=novelty, unlike=unlike)

    def add_to(self, files: Files) -> Files:
        """Add what is known to the files of a bundle."""
        fields, arrays = dict(files.fields), dict(files.arrays)
        if scale := self.scale.to_json():
            fields["scale"] = scale
        if self.novelty is not None:
            fields["novelty"], found = self.novelty.to_files()
            arrays |= found
        return files._replace(fields=fields, arrays=arrays)

    @classmethod
    def from_files(cls, files: Files) -> Guard:
        """Inverse of `add_to`; KeyError or ValueError if inconsistent."""
        novelty = Novelty.from_files(files.fields.get("novelty"), files.arrays)
        return cls(Scale.from_json(files.fields.get("scale", {})), novelty)


def turn_of(slide: str, recipes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """How the patches of a slide were turned before embedding; refuse if embeddings differ."""
    turns = {name: fields.get("slide_turn") for name, fields in recipes.items()}
    found = set(turns.values())
    if len(found) > 1:
        listed = ", ".join(f"{name} {turn or 'not turned'}" for name, turn in turns.items())
        raise BadInput(
            f"slide {slide}: patches of its embeddings were turned differently ({listed}); "
            "featurize it again, all with --mounted-like or none"
        )
    return found.pop() if found else None


def warn_of_turn(slide: str, turn: str) -> None:
    """Warn that the patches of a slide are turned, and how."""
    quarters, mirrored = turn.removesuffix("mirrored").strip("-"), turn.endswith("mirrored")
    ways = [f"rotated by {quarters} degrees counterclockwise"] if quarters else []
    ways += ["mirrored left to right"] if mirrored else []
    warn(
        f"slide {slide}: is mounted differently from the training slides, so its patches are "
        f"{', then '.join(ways)} before embedding; x and y are not changed"
    )


def fit_guard(store: EmbeddingStore, layout: Layout, setup: Setup) -> Guard:
    """Fit the guard on the training slides of a layout."""
    names: Sequence[str] = () if setup.model in CONSTANTS else tuple(layout.recipes)
    return Guard(measure_scale(layout.spots), fit_novelty(store, layout.spots, names, setup.seed))
