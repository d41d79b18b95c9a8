"""Assemble the features of a layout: in one matrix, or read in pieces of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.expression import COORDS, Term
from histoboost.regress.heads.blocks import Matrix, Rows, row_pieces
from histoboost.regress.layout import Columns, Layout
from histoboost.regress.neighbors import Mean, area_mean, ring_mean
from histoboost.regress.stored_rows import StoredRows
from histoboost.spots import SpotTable

#: Added to a variance before dividing, as in batch normalisation: features that rarely fire must
#: not be scaled up to unit variance.
EPSILON = 1e-6
#: Standard deviations at which standardised features are clipped: a few spots of folded tissue or
#: ink must not dominate.
CLIP = 3.0


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """Features (N, F), float32, of the slides of a layout, before any PCA.

    `moments` (slides, 2, F) are the means and variances of each column within each slide before
    standardisation (0 and 1 for coordinates); None if not standardised.
    """

    values: Matrix
    layout: Layout
    moments: Matrix | None = None

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each slide, then the number of rows."""
        return np.concatenate([[0], np.cumsum([len(table) for table in self.layout.spots])])

    def block(self, slide: int) -> Matrix:
        return self.values[self.starts[slide] : self.starts[slide + 1]]

    def moments_of(self, slide: int) -> Matrix | None:
        """Mean and variance (2, F) of each column within one slide; None if not standardised."""
        return None if self.moments is None else self.moments[slide]


class StoredFeatures:
    """Features of the slides of a layout, read from the store on access; see `assemble`."""

    def __init__(self, store: EmbeddingStore, layout: Layout, standardize: str = "slide") -> None:
        self.layout = layout
        self._blocks = [
            SlideFeatures(store, table, layout.columns, standardize) for table in layout.spots
        ]

    def block(self, slide: int) -> SlideFeatures:
        return self._blocks[slide]

    def moments_of(self, slide: int) -> Matrix | None:
        return self._blocks[slide].moments


Features = FeatureMatrix | StoredFeatures


@dataclass(eq=False)
class SlideFeatures:
    """Features (n, F) of one slide, read in pieces of rows; see `Rowwise`."""

    store: EmbeddingStore
    table: SpotTable
    columns: Sequence[Columns]
    standardize: str = "slide"
    _moments: Matrix | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.table), self.columns[-1].stop

    def pieces(self) -> Iterator[tuple[slice, Matrix]]:
        moments = self.moments
        for own, part in self._read(np.arange(len(self.table))):
            self._scale(part, moments)
            yield own, part

    def rows(self, rows: Rows) -> Matrix:
        found = np.empty((len(rows), self.shape[1]), np.float32)
        moments = self.moments
        for own, part in self._read(rows):
            found[own] = part
        self._scale(found, moments)
        return found

    def write(self, out: Matrix) -> None:
        """Write all features into `out` (n, F), reading them once."""
        for own, part in self.unscaled_pieces():
            out[own] = part
        self._scale(out, self._moments)

    @property
    def moments(self) -> Matrix | None:
        """Mean and variance (2, F) of each column, see `FeatureMatrix`."""
        if self.standardize == "slide" and self._moments is None:
            for _ in self.unscaled_pieces():
                pass
        return self._moments

    def unscaled_pieces(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield all rows before standardisation; the last one completes the moments."""
        moments = Moments()
        for own, part in self._read(np.arange(len(self.table))):
            if self.standardize == "slide":
                moments.add(part)
            yield own, part
        if self.standardize == "slide":
            self._moments = moments.found()
            for c in self.columns:
                if c.term.name == COORDS:
                    self._moments[:, c.start : c.stop] = [[0.0], [1.0]]

    def _scale(self, part: Matrix, moments: Matrix | None) -> None:
        """Standardise all columns but coordinates, in place, if there are moments."""
        for c in self.columns:
            if moments is not None and c.term.name != COORDS:
                standardize_columns(part[:, c.start : c.stop], moments[:, c.start : c.stop])

    def _read(self, rows: Rows) -> Iterator[tuple[slice, Matrix]]:
        """Yield all columns of some spots, ascending, before standardisation."""
        xy, sources = self.table.xy, []
        means = {c.term.around: _mean(xy, c.term) for c in self.columns if c.term.around}
        for name in dict.fromkeys(c.term.name for c in self.columns if c.term.name != COORDS):
            own = [c for c in self.columns if c.term.name == name]
            shape, around = (len(xy), own[0].stop - own[0].start), [c.term.around for c in own]
            read = StoredRows(
                self.store, self.table.slide, name, shape, [means.get(each) for each in around]
            )
            sources.append((read, own))
        places = [c for c in self.columns if c.term.name == COORDS]
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

    With `standardize` ``"slide"``, each embedding column is standardised to mean 0 and variance 1
    within each slide and clipped at 3 standard deviations, which removes differences of stain and
    scanner and uses no labels; otherwise columns are as stored.
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


def standardize_columns(part: Matrix, moments: Matrix) -> None:
    """Standardise columns by their means and variances (2, F) and clip at `CLIP`, in place."""
    mean, variance = moments
    part -= mean
    part /= np.sqrt(variance + EPSILON)
    np.clip(part, -CLIP, CLIP, out=part)


class Moments:
    """Running means and variances of columns (Chan, Golub, LeVeque 1983)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, part: Matrix) -> None:
        """Add rows (m, F)."""
        count, mean = len(part), part.mean(axis=0, dtype=np.float64)
        centred = part - mean.astype(np.float32)
        difference, total = mean - self._mean, max(self._count + count, 1)
        self._squares = (
            self._squares
            + np.einsum("ij,ij->j", centred, centred, dtype=np.float32)
            + difference**2 * (self._count * count / total)
        )
        self._mean = self._mean + difference * (count / total)
        self._count = total

    def found(self) -> Matrix:
        """Means and variances, (2, F)."""
        return np.stack([self._mean, self._squares / self._count]).astype(np.float32)


def _mean(xy: NDArray[np.float64], term: Term) -> Mean:
    return Mean(ring_mean(xy, term.rings)) if term.rings else area_mean(xy, term.area)


def unit_coords(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale x and y to 0..1 within the slide; 0.5 if it has no extent."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    half = np.full_like(xy, 0.5)
    return np.asarray(np.divide(xy - low, extent, out=half, where=extent > 0))
