"""Principal components of the `pca:K(...)` terms, fitted on the training slides only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import HistoboostWarning
from histoboost.regress.layout import Block

#: Block power iterations, and extra directions kept meanwhile (Halko, Martinsson, Tropp 2011).
ITERATIONS = 6
EXTRA = 16

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """Columns `start` to `stop` of the matrix: as they are, or as K components of them.

    `mean` has the shape (stop - start,) and `axes` (stop - start, K); None where nothing is done.
    """

    start: int
    stop: int
    mean: Matrix | None = None
    axes: Matrix | None = None

    def apply(self, values: Matrix) -> Matrix:
        """(n, F) to (n, width of this part)."""
        part = values[:, self.start : self.stop]
        if self.axes is None or self.mean is None:
            return part
        return np.asarray((part - self.mean) @ self.axes, dtype=np.float32)

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return self.stop - self.start if self.axes is None else self.axes.shape[1]


@dataclass(frozen=True)
class Reduction:
    """What is done to the assembled features before a head sees them."""

    parts: tuple[Part, ...]

    def apply(self, values: Matrix) -> Matrix:
        """(n, F) to (n, G); the array itself where nothing is reduced."""
        if all(part.axes is None for part in self.parts):
            return values
        return np.concatenate([part.apply(values) for part in self.parts], axis=1)

    def scale(self) -> Matrix:
        """One over the square root of the width of every column's part (G,): parts count alike."""
        widths = [np.full(part.width, part.stop - part.start, np.float32) for part in self.parts]
        return np.asarray(1 / np.sqrt(np.concatenate(widths)), dtype=np.float32)

    def to_files(self) -> tuple[list[list[int]], dict[str, NDArray[Any]]]:
        """Start, stop and components of every part, and the fitted arrays by name."""
        spans, arrays = [], {}
        for index, part in enumerate(self.parts):
            components = 0
            if part.mean is not None and part.axes is not None:
                arrays[f"pca_{index:02d}_mean"] = part.mean
                arrays[f"pca_{index:02d}_axes"] = part.axes
                components = part.axes.shape[1]
            spans.append([part.start, part.stop, components])
        return spans, arrays

    @classmethod
    def from_files(
        cls, spans: Sequence[Sequence[int]], arrays: Mapping[str, NDArray[Any]]
    ) -> Reduction:
        """Inverse of `to_files`; a KeyError or ValueError where something is off."""
        parts = []
        for index, (start, stop, components) in enumerate(spans):
            if not components:
                parts.append(Part(int(start), int(stop)))
                continue
            mean, axes = arrays[f"pca_{index:02d}_mean"], arrays[f"pca_{index:02d}_axes"]
            if mean.shape != (stop - start,) or axes.shape != (stop - start, components):
                raise ValueError(f"pca term {index} has other columns than it was fitted on")
            parts.append(Part(int(start), int(stop), mean, axes))
        return cls(tuple(parts))


def fit_reduction(layout: Sequence[Block], blocks: Sequence[Matrix], seed: int) -> Reduction:
    """Fit the components on the rows (n, F) of the training slides; `seed` starts the search.

    Warns
    -----
    HistoboostWarning
        If the spots have fewer components than requested.
    """
    parts = []
    for block in layout:
        start, stop, components = block.start, block.stop, block.term.components
        if not components:
            parts.append(Part(start, stop))
            continue
        mean, axes = principal_axes([b[:, start:stop] for b in blocks], components, seed)
        if axes.shape[1] < components:
            warnings.warn(
                f"pca:{components}: {sum(map(len, blocks))} training spots have {axes.shape[1]} "
                "components, so many are used",
                HistoboostWarning,
                stacklevel=3,
            )
        parts.append(Part(start, stop, mean, axes))
    return Reduction(tuple(parts))


def principal_axes(blocks: Sequence[Matrix], count: int, seed: int) -> tuple[Matrix, Matrix]:
    """Mean (F,) and leading principal axes (F, count) of the rows of `blocks`.

    Fewer than `count` where there are fewer rows or columns. Rows are centred on the fly, so that
    no copy of the data is made: scikit-learn's PCA copies all rows into one matrix (17 times the
    memory at 7,700 rows of 1,280, and one to four times the time).
    """
    n, f = sum(map(len, blocks)), blocks[0].shape[1]
    sums = np.sum([b.sum(0, dtype=np.float64) for b in blocks], axis=0)
    mean = np.asarray(sums / n, dtype=np.float32)
    count = min(count, f, max(n - 1, 1))
    start = np.random.default_rng(seed).standard_normal((f, min(count + EXTRA, f)))
    basis = np.asarray(start, dtype=np.float32)
    for _ in range(ITERATIONS):
        basis = _orthogonal(_covariance_times(blocks, mean, basis))
    projected = _covariance_times(blocks, mean, basis)
    values, vectors = np.linalg.eigh((basis.T @ projected).astype(np.float64))
    order = np.argsort(values)[::-1][:count]
    return mean, np.asarray(basis @ vectors[:, order], dtype=np.float32)


def _orthogonal(basis: Matrix) -> Matrix:
    q, _ = np.linalg.qr(np.asarray(basis, dtype=np.float64))
    return np.asarray(q, dtype=np.float32)


def _covariance_times(blocks: Sequence[Matrix], mean: Matrix, basis: Matrix) -> Matrix:
    """Scatter matrix of the centred rows times `basis`, without forming the scatter matrix."""
    shift = mean @ basis
    out = np.zeros_like(basis)
    for block in blocks:
        scores = block @ basis - shift
        out += block.T @ scores - np.outer(mean, scores.sum(axis=0))
    return out
