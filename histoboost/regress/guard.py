"""What a model keeps of its training slides to say where it should not be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from histoboost.regress.baselines import CONSTANTS
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

    def judged(self, said: Prediction, store: EmbeddingStore) -> Prediction:
        """A prediction with its novelty; it is warned of a slide unlike the training slides."""
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


def fit_guard(store: EmbeddingStore, layout: Layout, setup: Setup) -> Guard:
    """Of the training slides of a layout."""
    names: Sequence[str] = () if setup.model in CONSTANTS else tuple(layout.recipes)
    return Guard(Scale.of(layout.spots), fit_novelty(store, layout.spots, names, setup.seed))
