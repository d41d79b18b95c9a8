"""Layout to features: float16 in, float32 out, in one matrix or some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.expression import COORDS, Term
from histoboost.regress.heads.blocks import Matrix, Rows, row_pieces
from histoboost.regress.layout import Columns, Layout
from histoboost.regress.neighbors import Mean, area_mean, ring_mean
from histoboost.regress.stored_rows import StoredRows

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable

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

    values: Matrix
    layout: Layout
    moments: Matrix | None = None

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of every slide, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum([len(table) for table in self.layout.spots])])

    def block(self, slide: int) -> Matrix:
        """Rows of one slide, a view."""
        return self.values[self.starts[slide] : self.starts[slide + 1]]

    def moments_of(self, slide: int) -> Matrix | None:
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

    def moments_of(self, slide: int) -> Matrix | None:
        """Mean and variance (2, F) of every column within one slide; None where not taken out."""
        return self._blocks[slide].moments


#: Features of some slides, wherever they lie.
Features = FeatureMatrix | StoredFeatures


class SlideFeatures:
    """Features (n, F) of one slide, some rows at a time: see `Rowwise`.

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
        self._moments: Matrix | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Spots and features."""
        return len(self._table), self._columns[-1].stop

    def pieces(self) -> Iterator[tuple[slice, Matrix]]:
        """All features of all spots, some rows (a slice) in turn."""
        moments = self.moments
        for own, part in self._read(np.arange(len(self._table))):
            self._scale(part, moments)
            yield own, part

    def rows(self, rows: Rows) -> Matrix:
        """All features (m, F) of some spots, ascending."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        moments = self.moments
        for own, part in self._read(rows):
            found[own] = part
        self._scale(found, moments)
        return found

    def write(self, out: Matrix) -> None:
        """Write all features of all spots into `out` (n, F); they are read once."""
        for own, part in self.measured():
            out[own] = part
        self._scale(out, self._moments)

    @property
    def moments(self) -> Matrix | None:
        """Mean and variance (2, F) of every column; None where they are not taken out.

        Coordinates have 0 and 1.
        """
        if self._standardize and self._moments is None:
            for _ in self.measured():
                pass
        return self._moments

    def measured(self) -> Iterator[tuple[slice, Matrix]]:
        """All rows before they are standardised; when the last is through, moments are known."""
        moments = Moments()
        for own, part in self._read(np.arange(len(self._table))):
            if self._standardize:
                moments.add(part)
            yield own, part
        if self._standardize:
            self._moments = moments.found()
            for c in self._columns:
                if c.term.name == COORDS:
                    self._moments[:, c.start : c.stop] = [[0.0], [1.0]]

    def _scale(self, part: Matrix, moments: Matrix | None) -> None:
        """`standardize_columns` of all but coordinates, in place, where moments are taken out."""
        for c in self._columns:
            if moments is not None and c.term.name != COORDS:
                standardize_columns(part[:, c.start : c.stop], moments[:, c.start : c.stop])

    def _read(self, rows: Rows) -> Iterator[tuple[slice, Matrix]]:
        """All columns of some spots, ascending, as they are stored or averaged."""
        xy, sources = self._table.xy, []
        means = {c.term.around: _mean(xy, c.term) for c in self._columns if c.term.around}
        for name in dict.fromkeys(c.term.name for c in self._columns if c.term.name != COORDS):
            own = [c for c in self._columns if c.term.name == name]
            shape, around = (len(xy), own[0].stop - own[0].start), [c.term.around for c in own]
            read = StoredRows(
                self._store, self._table.slide, name, shape, [means.get(each) for each in around]
            )
            sources.append((read, own))
        places = [c for c in self._columns if c.term.name == COORDS]
        coords = unit_coords(xy) if places else xy
        for piece in row_pieces(len(rows)):
            found = np.empty((piece.stop - piece.start, self.shape[1]), np.float32)
            for read, own in sources:
                parts = [found[:, c.start : c.stop] for c in own]
                read.write(rows[piece], parts, more=piece.stop < len(rows))
            for c in places:
                found[:, c.start : c.stop] = coords[rows[piece]]
            yield piece, found


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
        source.write(matrix.block(slide))
        if moments is not None:
            moments[slide] = source.moments
    return matrix


def features_of(
    store: EmbeddingStore, layout: Layout, standardize: str, *, rowwise: bool
) -> Features:
    """The features of a layout, in memory where they are few or a model needs all of them at once.

    Parameters
    ----------
    store, layout, standardize
        See `assemble`.
    rowwise : bool
        Whether some rows at a time will do.
    """
    size = sum(map(len, layout.spots)) * layout.blocks[-1].stop * 4
    if rowwise and size > MOST_BYTES:
        return StoredFeatures(store, layout, standardize)
    return assemble(store, layout, standardize)


def standardize_columns(part: Matrix, moments: Matrix) -> None:
    """Bring columns to mean 0 and variance ``v / (v + EPSILON)``, cut at `CLIP`, in place.

    `moments` (2, F) are the means and the variances v before.
    """
    mean, variance = moments
    part -= mean
    part /= np.sqrt(variance + EPSILON)
    np.clip(part, -CLIP, CLIP, out=part)


class Moments:
    """Means and variances of columns, piece of rows by piece (Chan, Golub, LeVeque 1983)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, part: Matrix) -> None:
        """Some more rows (m, F)."""
        count, mean = len(part), part.mean(axis=0, dtype=np.float64)
        centred = part - mean.astype(np.float32)
        apart, total = mean - self._mean, max(self._count + count, 1)
        self._squares = (
            self._squares
            + np.einsum("ij,ij->j", centred, centred, dtype=np.float32)
            + apart**2 * (self._count * count / total)
        )
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def found(self) -> Matrix:
        """Means and variances, (2, F)."""
        return np.stack([self._mean, self._squares / self._count]).astype(np.float32)


def _mean(xy: NDArray[np.float64], term: Term) -> Mean:
    return Mean(ring_mean(xy, term.rings)) if term.rings else area_mean(xy, term.area)


def unit_coords(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """x and y scaled to 0..1 within the slide; 0.5 where a slide has no extent."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    half = np.full_like(xy, 0.5)
    return np.asarray(np.divide(xy - low, extent, out=half, where=extent > 0))
