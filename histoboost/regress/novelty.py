"""How far spots are from all that a model was trained on.

Two views of the embeddings, because each misses what the other sees: as they are, where another
stain, focus or scanner shows, and standardised within the slide, where another tissue shows. Each
is reduced to its leading principal axes and the distance from what they span, and a spot's
distance is the mean of those to its nearest training spots: out-of-distribution detection by
nearest neighbours (Sun et al. 2022) with the distance from the subspace beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.regress.budget import one_blas_thread
from histoboost.regress.expression import Term
from histoboost.regress.features import Moments, SlideFeatures, standardize_columns
from histoboost.regress.layout import Columns
from histoboost.regress.novelty_view import NEAREST, Matrix, Parts, View, distance, fit_view

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable

Array = NDArray[np.float64]

#: Training spots that are kept, of all slides together.
KEPT = 2000
#: Distance that counts as 1, at least: copies of one slide are no distance from each other.
SMALLEST = 1e-6
#: Share of a held-out slide's spots that is not novel.
QUANTILE = 0.95
#: Share of novel spots above which a slide as a whole is unlike the training slides.
UNLIKE = 0.5
#: The two views: embeddings as they are, and standardised within the slide.
LOOKS = ("raw", "slide")
#: Arrays of a view that the bundle keeps.
PARTS = ("mean", "scale", "axes", "spots")


@dataclass(frozen=True, eq=False)
class Novelty:
    """What a model keeps of its training spots, to tell what is unlike them.

    Attributes
    ----------
    widths : dict
        Embedding name to its number of columns.
    views : tuple of View
        Of embeddings as they are, and standardised within the slide.
    far : float
        What the larger of the two distances is divided by.
    """

    widths: dict[str, int]
    views: tuple[View, View]
    far: float

    def judge(self, store: EmbeddingStore, table: SpotTable) -> tuple[Array, bool]:
        """Novelty (N,) of a slide's spots, and whether the slide is unlike the training slides.

        Parameters
        ----------
        store : EmbeddingStore
            Where the slide's embeddings are.
        table : SpotTable
            The slide.

        Warns
        -----
        HistoboostWarning
            If the slide is unlike the training slides.
        """
        own, standardised = self.of_slide(store, table)
        novelty = np.maximum(own, standardised)
        share = float(np.mean(novelty > 1))
        unlike = share > UNLIKE
        if unlike:
            tissue = float(np.mean(standardised > 1)) > UNLIKE
            warn(
                f"slide {table.slide}: is unlike the training slides in "
                f"{'tissue' if tissue else 'stain, focus, scanner or tissue'} ({share:.0%} of its "
                "spots are novel); do not rely on its predictions"
            )
        return novelty, unlike

    def of_slide(self, store: EmbeddingStore, table: SpotTable) -> tuple[Array, Array]:
        """Novelty in both views (N,)."""
        slide, found = _features(store, table, self.widths, "slide"), []
        with one_blas_thread():
            for view, look in zip(
                self.views, (slide.unscaled_pieces(), slide.pieces()), strict=True
            ):
                places = (view.place(_split(part, self.widths)) for _, part in look)
                apart = [distance(place, view.spots) for place in places]
                found.append(np.concatenate(apart) / view.far / self.far)
        return found[0], found[1]

    def to_files(self) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
        """Widths for the document and arrays for the bundle."""
        arrays: dict[str, NDArray[Any]] = {"novelty-far": np.array([self.far])}
        for name, view in zip(LOOKS, self.views, strict=True):
            arrays |= {f"novelty-{name}-{part}": getattr(view, part) for part in PARTS}
            arrays[f"novelty-{name}-far"] = np.array([view.far])
        return self.widths, arrays

    @classmethod
    def from_files(
        cls, widths: Mapping[str, int] | None, arrays: Mapping[str, NDArray[Any]]
    ) -> Novelty | None:
        """Inverse of `to_files`, None where there is none; KeyError or ValueError if broken."""
        if widths is None:
            return None
        widths = {str(name): int(width) for name, width in widths.items()}
        count, views = sum(widths.values()), []
        for name in LOOKS:
            found = [arrays[f"novelty-{name}-{part}"] for part in PARTS]
            mean, scale, axes, spots = found
            shapes = [(count,), (count,), (count, spots.shape[1] - 1), spots.shape]
            if [each.shape for each in found] != shapes or len(spots) < NEAREST:
                raise ValueError("what is kept of the training spots does not fit the embeddings")
            views.append(View(mean, scale, axes, spots, float(arrays[f"novelty-{name}-far"][0])))
        far = float(arrays["novelty-far"][0])
        if min(far, *(view.far for view in views)) <= 0:
            raise ValueError("a distance that counts as 1 must be above 0")
        return cls(widths, (views[0], views[1]), far)


def fit_novelty(
    store: EmbeddingStore, spots: Sequence[SpotTable], names: Sequence[str], seed: int
) -> Novelty | None:
    """Keep what tells novel spots; None where nothing does.

    Each training slide is held out in turn, and the median over slides of the `QUANTILE` of its
    spots' distances from all others counts as 1: one odd slide among them loosens nothing.

    Parameters
    ----------
    store : EmbeddingStore
        Where the embeddings are.
    spots : sequence of SpotTable
        Training slides; of one alone nothing can be learned.
    names : sequence of str
        Embeddings that the model uses.
    seed : int
        Draws the spots that are kept.
    """
    spots = [table for table in spots if len(table) >= NEAREST]
    if len(spots) < 2 or not names:
        return None
    each = max(NEAREST, KEPT // len(spots))
    widths = {name: store.width(spots[0].slide, name) for name in names}
    kept: dict[str, list[Parts]] = {name: [] for name in LOOKS}
    within = np.zeros(sum(widths.values()))
    for table in spots:
        rows = np.random.default_rng(seed).permutation(len(table))[:each]
        moments, some = Moments(), np.empty((len(rows), len(within)), np.float32)
        for own, part in _features(store, table, widths, "none").pieces():
            moments.add(part)
            here = (rows >= own.start) & (rows < own.stop)
            some[here] = part[rows[here] - own.start]
        within += moments.found()[1]
        kept["raw"].append(_split(some, widths))
        standardize_columns(some := some.copy(), moments.found())
        kept["slide"].append(_split(some, widths))
    owner = np.repeat(np.arange(len(spots)), [min(each, len(table)) for table in spots])
    views, found = [], []
    with one_blas_thread():
        for slides, variance in zip(kept.values(), (within / len(spots), None), strict=True):
            view = fit_view(slides, variance, seed)
            apart = _held_out(view.spots, owner)
            views.append(replace(view, far=_far(apart, owner)))
            found.append(apart / views[-1].far)
    return Novelty(widths, (views[0], views[1]), _far(np.maximum(*found), owner))


def _held_out(spots: Matrix, owner: NDArray[np.int64]) -> Array:
    """`distance` of every spot to those of other slides."""
    slides = [owner == slide for slide in np.unique(owner)]
    return np.concatenate([distance(spots[own], spots[~own]) for own in slides])


def _far(apart: Array, owner: NDArray[np.int64]) -> float:
    each = [np.quantile(apart[owner == slide], QUANTILE) for slide in np.unique(owner)]
    return max(float(np.median(each)), SMALLEST)


def _features(
    store: EmbeddingStore, table: SpotTable, widths: Mapping[str, int], standardize: str
) -> SlideFeatures:
    """The embeddings of a slide side by side."""
    ends = np.cumsum(list(widths.values())).tolist()
    columns = [
        Columns(Term(name), stop - width, stop)
        for (name, width), stop in zip(widths.items(), ends, strict=True)
    ]
    return SlideFeatures(store, table, columns, standardize)


def _split(values: Matrix, widths: Mapping[str, int]) -> Parts:
    """Columns by embedding."""
    return np.split(values, np.cumsum(list(widths.values()))[:-1], axis=1)
