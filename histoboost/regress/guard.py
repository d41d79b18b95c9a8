"""What a model keeps of its training slides to say where it should not be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from histoboost.errors import BadInput, warn
from histoboost.regress.baselines import CONSTANTS
from histoboost.regress.expression import COORDS, parse_features
from histoboost.regress.heads.base import Files
from histoboost.regress.novelty import Novelty, fit_novelty
from histoboost.regress.scale import Scale

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.layout import Layout
    from histoboost.regress.predictions import Prediction
    from histoboost.regress.setup import Setup


@dataclass(frozen=True)
class Guard:
    """Scale of the training slides, and what tells novel spots where that can be told."""

    scale: Scale
    novelty: Novelty | None

    def knows_mounting(self, setup: Setup) -> bool:
        """Whether a model can tell how its training slides lie, and wants others to lie so."""
        terms = [plain for term in parse_features(setup.features) for plain in term.plain]
        return self.novelty is not None and all(term.name != COORDS for term in terms)

    def judged(
        self, said: Prediction, store: EmbeddingStore, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Prediction:
        """A prediction with its novelty and turn, of which is warned; `recipes` of the slide."""
        if (turn := turn_of(said.slide, recipes)) is not None:
            warn_of_turn(said.slide, turn)
            said = replace(said, turn=turn)
        if self.novelty is None:
            return said
        novelty, unlike = self.novelty.judge(store, said.spots)
        return replace(said, novelty=novelty, unlike=unlike)

    def add_to(self, files: Files) -> Files:
        """A bundle's files with these; nothing is added where nothing is known."""
        fields, arrays = dict(files.fields), dict(files.arrays)
        if scale := self.scale.to_json():
            fields["scale"] = scale
        if self.novelty is not None:
            fields["novelty"], found = self.novelty.to_files()
            arrays |= found
        return files._replace(fields=fields, arrays=arrays)

    @classmethod
    def from_files(cls, files: Files) -> Guard:
        """Inverse of `add_to`; models of 0.1.0 know nothing; KeyError or ValueError if broken."""
        novelty = Novelty.from_files(files.fields.get("novelty"), files.arrays)
        return cls(Scale.from_json(files.fields.get("scale", {})), novelty)


def turn_of(slide: str, recipes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """How the patches of a slide were turned before they were embedded; None where they were not.

    Raises
    ------
    HistoboostError
        If those of some embeddings were turned and those of others were not.
    """
    turns = {name: fields.get("slide_turn") for name, fields in recipes.items()}
    found = set(turns.values())
    if len(found) > 1:
        said = ", ".join(f"{name} {turn or 'as it lies'}" for name, turn in turns.items())
        raise BadInput(
            f"slide {slide}: its embeddings are of patches turned in several ways ({said}); "
            "featurize it anew, all with --mounted-like or none"
        )
    return found.pop() if found else None


def warn_of_turn(slide: str, turn: str) -> None:
    """Say that the patches of a slide are turned, and how."""
    quarters, mirrored = turn.removesuffix("mirrored").strip("-"), turn.endswith("mirrored")
    ways = [f"turned by {quarters} degrees against the clock"] if quarters else []
    ways += ["mirrored left to right"] if mirrored else []
    warn(
        f"slide {slide}: lies otherwise than the training slides, so its patches are "
        f"{', then '.join(ways)} before they are embedded; x and y stay those of the slide as given"
    )


def fit_guard(store: EmbeddingStore, layout: Layout, setup: Setup) -> Guard:
    """Of the training slides of a layout."""
    names: Sequence[str] = () if setup.model in CONSTANTS else tuple(layout.recipes)
    return Guard(Scale.of(layout.spots), fit_novelty(store, layout.spots, names, setup.seed))
