"""Layout to features: float16 in, float32 out, in one matrix or a few columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.regress.expression import COORDS, Term
from histoboost.regress.heads.blocks import COLUMNS, lengths_of
from histoboost.regress.layout import Columns, Layout
from histoboost.regress.neighbors import area_mean, ring_mean

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable

Around = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Added to a variance before dividing, as in batch normalisation: a feature that hardly ever
#: fires must not be blown up to unit variance.
EPSILON = 1e-6
#: Standard deviations at which a standardised feature is cut off: a few spots of folded tissue or
#: ink must not pull a model.
CLIP = 3.0


#: Bytes of features that are held in memory; beyond, they are read anew whenever they are needed.
MOST_BYTES = 3 << 28


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

    def moments_of(self, slide: int) -> NDArray[np.float32] | None:
        """Mean and variance (2, F) of every column within one slide; None where not taken out."""
        return None if self.moments is None else self.moments[slide]


class StoredFeatures:
    """The same, read from the store whenever they are needed.

    Parameters
    ----------
    store, layout, standardize
        See `assemble`.
    """

    def __init__(self, store: EmbeddingStore, layout: Layout, standardize: str = "slide") -> None:
        self.layout = layout
        self._blocks = [
            SlideFeatures(store, table, layout.columns, standardize) for table in layout.spots
        ]

    def block(self, slide: int) -> SlideFeatures:
        """Features of one slide."""
        return self._blocks[slide]

    def moments_of(self, slide: int) -> NDArray[np.float32] | None:
        """Mean and variance (2, F) of every column within one slide; None where not taken out."""
        return self._blocks[slide].moments


#: Features of some slides, wherever they lie.
Features = FeatureMatrix | StoredFeatures


class SlideFeatures:
    """Features (n, F) of one slide, a few columns at a time: see `Columnwise`.

    Parameters
    ----------
    store, columns, standardize
        See `assemble`.
    table : SpotTable
        The slide.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        table: SpotTable,
        columns: Sequence[Columns],
        standardize: str = "slide",
    ) -> None:
        self._store, self._table, self._columns = store, table, columns
        self._standardize = standardize == "slide"
        self._embedding: tuple[str, NDArray[np.float16]] | None = None
        self._around: dict[str, Around] = {}
        self._lengths: dict[bytes, NDArray[np.float32]] = {}
        #: Mean and variance (2, F) of the columns read so far; coordinates keep 0 and 1.
        self.seen = np.full((2, self.shape[1]), np.nan, np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Spots and features."""
        return len(self._table), self._columns[-1].stop

    def columns(self, start: int, stop: int) -> NDArray[np.float32]:
        """Some columns (n, stop - start) of all spots."""
        found = np.empty((len(self._table), stop - start), np.float32)
        for c in self._columns:
            own = slice(max(c.start, start), min(c.stop, stop))
            if own.start < own.stop:
                self.fill(found[:, own.start - start : own.stop - start], c, own)
        if stop == self.shape[1]:
            self.let_go()
        return found

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """All columns (m, F) of some spots."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for c in self._columns:
            for own in _pieces(c):
                self.fill(found[:, own], c, own, rows)
        self.let_go()
        return found

    def lengths(self, scale: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lengths (n,) of all rows, columns multiplied by `scale`; kept from then on."""
        key = scale.tobytes()
        if key not in self._lengths:
            self._lengths = {key: lengths_of(self, scale)}
        return self._lengths[key]

    @property
    def moments(self) -> NDArray[np.float32] | None:
        """Mean and variance (2, F) of every column; None where they are not taken out."""
        if not self._standardize:
            return None
        for start in range(0, self.shape[1], COLUMNS):
            own = slice(start, min(start + COLUMNS, self.shape[1]))
            if np.isnan(self.seen[:, own]).any():
                self.columns(own.start, own.stop)
        return self.seen

    def fill(
        self,
        part: NDArray[np.float32],
        columns: Columns,
        own: slice,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Write the columns `own` of all columns, which belong to one term, into `part`.

        Of some rows where they are given: only these are worked on, once the moments are known.
        """
        term, some = columns.term, slice(own.start - columns.start, own.stop - columns.start)
        chosen = slice(None) if rows is None else rows
        if term.name == COORDS:
            part[...] = unit_coords(self._table.xy)[chosen, some]
            self.seen[:, own] = [[0.0], [1.0]]
            return
        known = self.seen[:, own] if self._standardize else np.empty((2, 0), np.float32)
        moments = None if np.isnan(known).any() else known
        if rows is not None and (term.around or moments is None):
            whole = np.empty((len(self._table), part.shape[1]), np.float32)
            self.fill(whole, columns, own)
            part[...] = whole[rows]
            return
        part[...] = self._read(term.name, columns.stop - columns.start)[chosen, some]
        if not np.isfinite(part).all():
            raise BadInput(
                f"embedding {term.name}: not finite on slide {self._table.slide}; remove it with "
                "histoboost cache remove and featurize again"
            )
        if term.around:
            part[...] = self._mean(term, part)
        if self._standardize:
            self.seen[:, own] = standardize_columns(part, moments)

    def let_go(self) -> None:
        """Forget the embedding read last and the graphs."""
        self._embedding = None
        self._around = {}

    def _read(self, name: str, width: int) -> NDArray[np.float16]:
        if self._embedding is None or self._embedding[0] != name:
            self._embedding = None  # the old is let go before the new is read
            values = self._store.read(self._table.slide, name)
            if values.shape != (len(self._table), width):
                raise BadInput(
                    f"embedding {name}: shape {values.shape} on slide {self._table.slide}, "
                    f"expected {(len(self._table), width)}; run histoboost cache verify"
                )
            self._embedding = name, values
        return self._embedding[1]

    def _mean(self, term: Term, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if term.around not in self._around:
            xy = self._table.xy
            self._around[term.around] = (
                ring_mean(xy, term.rings).__matmul__ if term.rings else area_mean(xy, term.area)
            )
        return self._around[term.around](values)


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
        moments = np.empty((len(layout.spots), 2, width), np.float32)
    matrix = FeatureMatrix(np.empty((rows, width), np.float32), layout, moments)
    for slide, table in enumerate(layout.spots):
        source = SlideFeatures(store, table, layout.columns, standardize)
        block = matrix.block(slide)
        by_name = sorted(layout.columns, key=lambda c: c.term.name)  # each embedding is read once
        for c in by_name:
            for own in _pieces(c):
                source.fill(block[:, own], c, own)
        source.let_go()
        if moments is not None:
            moments[slide] = source.seen
    return matrix


def features_of(
    store: EmbeddingStore, layout: Layout, standardize: str, *, columnwise: bool
) -> Features:
    """The features of a layout, in memory where they are few or a model needs all of them at once.

    Parameters
    ----------
    store, layout, standardize
        See `assemble`.
    columnwise : bool
        Whether some columns at a time will do.
    """
    size = sum(map(len, layout.spots)) * layout.blocks[-1].stop * 4
    if columnwise and size > MOST_BYTES:
        return StoredFeatures(store, layout, standardize)
    return assemble(store, layout, standardize)


def _pieces(columns: Columns) -> list[slice]:
    """The columns of a term, cut where `columns_of` cuts: a column's digits depend on it."""
    cuts = range(columns.start // COLUMNS * COLUMNS + COLUMNS, columns.stop, COLUMNS)
    ends = [columns.start, *cuts, columns.stop]
    return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]


def standardize_columns(
    part: NDArray[np.float32], moments: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Bring every column to mean 0 and variance ``v / (v + EPSILON)``, cut at `CLIP`, in place.

    Returns the means and the variances v before, (2, F); those of `part`, unless they are given.
    """
    mean = part.mean(axis=0, dtype=np.float64).astype(np.float32) if moments is None else moments[0]
    part -= mean
    if moments is None:
        variance = np.einsum("ij,ij->j", part, part, dtype=np.float32) / max(len(part), 1)
    else:
        variance = moments[1]
    part /= np.sqrt(variance + EPSILON)
    np.clip(part, -CLIP, CLIP, out=part)
    return np.stack([mean, variance])


def unit_coords(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """x and y scaled to 0..1 within the slide; 0.5 where a slide has no extent."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    half = np.full_like(xy, 0.5)
    return np.asarray(np.divide(xy - low, extent, out=half, where=extent > 0))
