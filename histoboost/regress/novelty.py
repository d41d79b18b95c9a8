"""Novelty: distance of spots from the training spots.

There are two complementary views of the embeddings: raw, which shows another stain, focus or
scanner, and standardised within the slide, which shows another tissue. Each is reduced to its
leading principal axes and the distance from their span; the distance of a spot is its mean distance
to the nearest training spots there (out-of-distribution detection by nearest neighbours, Sun et al.
2022, extended by the distance from the subspace).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import warn
from histoboost.regress.budget import one_blas_thread
from histoboost.regress.expression import Term
from histoboost.regress.features import Moments, SlideFeatures, standardize_columns
from histoboost.regress.heads.base import Array
from histoboost.regress.heads.blocks import Matrix
from histoboost.regress.layout import Columns
from histoboost.regress.novelty_view import NEAREST, Parts, View, distance, fit_view
from histoboost.spots import SpotTable

#: Number of training spots kept.
KEPT = 2000
#: Smallest unit of distance: copies of one slide have distance 0.
SMALLEST = 1e-6
#: Share of a held-out slide's spots that is not novel.
QUANTILE = 0.95
#: Share of novel spots above which a slide is unlike the training slides.
UNLIKE = 0.5
#: Names of the views in the bundle: raw, and standardised within the slide.
VIEWS = ("raw", "slide")
#: Arrays of a view in the bundle.
PARTS = ("mean", "scale", "axes", "spots")


@dataclass(frozen=True, eq=False)
class Novelty:
    """Training spots in two views, raw and standardised, as a reference for novelty.

    `widths` are the numbers of columns by embedding; the larger of both distances is divided by
    `far`.
    """

    widths: dict[str, int]
    views: tuple[View, View]
    far: float

    def judge(self, store: EmbeddingStore, table: SpotTable) -> tuple[Array, bool]:
        """Novelty (N,) of a slide's spots, and whether the slide is unlike the training slides.

        Warn if it is.
        """
        raw, standardised = self.by_view(store, table)
        novelty = np.maximum(raw, standardised)
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

    def by_view(self, store: EmbeddingStore, table: SpotTable) -> tuple[Array, Array]:
        """Novelty (N,) of a slide's spots in both views."""
        slide, found = _features(store, table, self.widths, "slide"), []
        both = (slide.unscaled_pieces(), slide.pieces())
        with one_blas_thread():
            for view, pieces in zip(self.views, both, strict=True):
                projected = (view.project(_split(part, self.widths)) for _, part in pieces)
                distances = [distance(spots, view.spots) for spots in projected]
                found.append(np.concatenate(distances) / view.far / self.far)
        return found[0], found[1]

    def to_files(self) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {"novelty-far": np.array([self.far])}
        for name, view in zip(VIEWS, self.views, strict=True):
            arrays |= {f"novelty-{name}-{part}": getattr(view, part) for part in PARTS}
            arrays[f"novelty-{name}-far"] = np.array([view.far])
        return self.widths, arrays

    @classmethod
    def from_files(
        cls, widths: Mapping[str, int] | None, arrays: Mapping[str, NDArray[Any]]
    ) -> Novelty | None:
        """Inverse of `to_files`; None without `widths`, KeyError or ValueError if inconsistent."""
        if widths is None:
            return None
        widths = {str(name): int(width) for name, width in widths.items()}
        count, views = sum(widths.values()), []
        for name in VIEWS:
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
    """Fit novelty on embeddings `names` of the training slides; None with fewer than two slides.

    The unit of distance is the median over slides, held out in turn, of the `QUANTILE` of their
    spots' distances to the others, so a single odd slide does not change it.
    """
    spots = [table for table in spots if len(table) >= NEAREST]
    if len(spots) < 2 or not names:
        return None
    each = max(NEAREST, KEPT // len(spots))
    widths = {name: store.width(spots[0].slide, name) for name in names}
    kept: dict[str, list[Parts]] = {name: [] for name in VIEWS}
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
            distances = _held_out(view.spots, owner)
            views.append(replace(view, far=_far(distances, owner)))
            found.append(distances / views[-1].far)
    return Novelty(widths, (views[0], views[1]), _far(np.maximum(*found), owner))


def _held_out(spots: Matrix, owner: NDArray[np.int64]) -> Array:
    """`distance` of each spot to those of other slides."""
    slides = [owner == slide for slide in np.unique(owner)]
    return np.concatenate([distance(spots[own], spots[~own]) for own in slides])


def _far(distances: Array, owner: NDArray[np.int64]) -> float:
    each = [np.quantile(distances[owner == slide], QUANTILE) for slide in np.unique(owner)]
    return max(float(np.median(each)), SMALLEST)


def _features(
    store: EmbeddingStore, table: SpotTable, widths: Mapping[str, int], standardize: str
) -> SlideFeatures:
    """Concatenated embeddings of a slide."""
    ends = np.cumsum(list(widths.values())).tolist()
    columns = [
        Columns(Term(name), stop - width, stop)
        for (name, width), stop in zip(widths.items(), ends, strict=True)
    ]
    return SlideFeatures(store, table, columns, standardize)


def _split(values: Matrix, widths: Mapping[str, int]) -> Parts:
    """Split columns by embedding."""
    return np.split(values, np.cumsum(list(widths.values()))[:-1], axis=1)
