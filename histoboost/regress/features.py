"""Layout to matrix: float16 in, one float32 matrix out, no copy in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.regress.expression import COORDS
from histoboost.regress.layout import Columns, Layout
from histoboost.regress.neighbors import area_mean, ring_mean

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable

#: Added to a variance before dividing, as in batch normalisation: a feature that hardly ever
#: fires must not be blown up to unit variance.
EPSILON = 1e-6
#: Standard deviations at which a standardised feature is cut off: a few spots of folded tissue or
#: ink must not pull a model.
CLIP = 3.0


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The features of some slides, one row per spot.

    Attributes
    ----------
    values : ndarray of shape (N, F), float32
        Slides one after the other, in the order of the layout's spots; before any PCA.
    layout : Layout
        What rows and columns are.
    moments : ndarray of shape (slides, 2, F), float32, or None
        Mean and variance of every column within each slide, before they were taken out; None
        where they were not. Coordinates keep 0 and 1.
    """

    values: NDArray[np.float32]
    layout: Layout
    moments: NDArray[np.float32] | None = None

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of every slide, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum([len(table) for table in self.layout.spots])])

    def block(self, slide: int) -> NDArray[np.float32]:
        """Rows of one slide, a view."""
        return self.values[self.starts[slide] : self.starts[slide + 1]]


def assemble(store: EmbeddingStore, layout: Layout, standardize: str = "slide") -> FeatureMatrix:
    """Read the features of a layout into one matrix.

    Parameters
    ----------
    store : EmbeddingStore
        Where the embeddings are.
    layout : Layout
        See `describe`.
    standardize : str
        ``"slide"`` brings every embedding column to mean 0 and variance 1 within each slide
        and cuts it off at 3 standard deviations,
        which takes away differences of stain and scanner and uses no labels; ``"none"``.

    Raises
    ------
    HistoboostError
        If an embedding has another shape than its recipe says, or is not finite.
    """
    rows = sum(map(len, layout.spots))
    width, moments = layout.blocks[-1].stop, None
    if standardize == "slide":
        moments = np.zeros((len(layout.spots), 2, width), np.float32)
        moments[:, 1] = 1
    matrix = FeatureMatrix(np.empty((rows, width), np.float32), layout, moments)
    for slide, table in enumerate(layout.spots):
        own = None if moments is None else moments[slide]
        _fill(matrix.block(slide), store, table, layout.columns, own)
    return matrix


def _fill(
    rows: NDArray[np.float32],
    store: EmbeddingStore,
    table: SpotTable,
    columns: Sequence[Columns],
    moments: NDArray[np.float32] | None,
) -> None:
    """Write the features of one slide; each embedding is read once, each graph built once.

    They are standardised where there is room (2, F) for their `moments`.
    """
    around = {
        c.term.around: ring_mean(table.xy, c.term.rings).__matmul__
        if c.term.rings
        else area_mean(table.xy, c.term.area)
        for c in {c.term.around: c for c in columns if c.term.around}.values()
    }
    for name in dict.fromkeys(c.term.name for c in columns):
        own = [c for c in columns if c.term.name == name]
        if name == COORDS:
            for c in own:
                rows[:, c.start : c.stop] = unit_coords(table.xy)
            continue
        embedding = store.read(table.slide, name).astype(np.float32)
        expected = (len(rows), own[0].stop - own[0].start)
        if embedding.shape != expected:
            raise BadInput(
                f"embedding {name}: shape {embedding.shape} on slide {table.slide}, expected "
                f"{expected}; run histoboost cache verify"
            )
        if not np.isfinite(embedding).all():
            raise BadInput(
                f"embedding {name}: not finite on slide {table.slide}; remove it with histoboost "
                "cache remove and featurize again"
            )
        for c in own:
            part = rows[:, c.start : c.stop]
            part[...] = around[c.term.around](embedding) if c.term.around else embedding
            if moments is not None:
                moments[:, c.start : c.stop] = standardize_columns(part)


def standardize_columns(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring every column to mean 0 and variance ``v / (v + EPSILON)``, cut at `CLIP`, in place.

    Returns the means and the variances v before, (2, F).
    """
    mean = part.mean(axis=0, dtype=np.float64).astype(np.float32)
    part -= mean
    variance = np.einsum("ij,ij->j", part, part, dtype=np.float32) / max(len(part), 1)
    part /= np.sqrt(variance + EPSILON)
    np.clip(part, -CLIP, CLIP, out=part)
    return np.stack([mean, variance])


def unit_coords(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """x and y scaled to 0..1 within the slide; 0.5 where a slide has no extent."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    half = np.full_like(xy, 0.5)
    return np.asarray(np.divide(xy - low, extent, out=half, where=extent > 0))
