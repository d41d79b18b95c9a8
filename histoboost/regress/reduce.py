"""Preprocessing fitted on the training slides: standardisation and principal components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from histoboost.errors import warn
from histoboost.regress.expression import COORDS
from histoboost.regress.heads.blocks import Block as BlockOfSlide
from histoboost.regress.heads.blocks import Matrix, rows_of
from histoboost.regress.layout import Block

#: Block power iterations and oversampling (Halko, Martinsson, Tropp 2011).
ITERATIONS = 6
EXTRA = 16
#: Rows converted to float64 at once.
CHUNK = 4096
#: Standard deviation relative to the mean below which a column counts as constant.
CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Part:
    """Columns `start` to `stop` of the matrix: unchanged, standardised, or reduced to K components.

    `mean` and `sd` are (stop - start,), `axes` (stop - start, K), divided by `sd` if standardised.
    """

    start: int
    stop: int
    mean: Matrix | None = None
    axes: Matrix | None = None
    sd: Matrix | None = None

    def apply(self, values: Matrix) -> Matrix:
        """Transform features (n, F) to (n, width)."""
        part = values[:, self.start : self.stop]
        if self.mean is None:
            return part
        if self.axes is not None:
            return np.asarray((part - self.mean) @ self.axes, dtype=np.float32)
        return np.asarray((part - self.mean) / (1 if self.sd is None else self.sd), np.float32)

    @property
    def width(self) -> int:
        return self.stop - self.start if self.axes is None else self.axes.shape[1]


@dataclass(frozen=True)
class Reduction:
    """Preprocessing of all columns."""

    parts: tuple[Part, ...]

    def apply(self, values: BlockOfSlide) -> BlockOfSlide:
        """Transform features (n, F) to (n, G)."""
        if not self.changes:
            return values
        whole = rows_of(values)
        return np.concatenate([part.apply(whole) for part in self.parts], axis=1)

    @property
    def changes(self) -> bool:
        return any(part.mean is not None for part in self.parts)

    def scale(self) -> Matrix:
        """Scale (G,) that weights parts equally: one over the square root of their width."""
        widths = [np.full(part.width, part.stop - part.start, np.float32) for part in self.parts]
        return np.asarray(1 / np.sqrt(np.concatenate(widths)), dtype=np.float32)

    def to_files(self) -> tuple[list[list[int]], dict[str, NDArray[Any]]]:
        """Start, stop and components of each part, and its arrays."""
        spans, arrays = [], {}
        for index, part in enumerate(self.parts):
            components = 0
            if part.mean is not None and part.axes is not None:
                arrays[f"pca_{index:02d}_mean"] = part.mean
                arrays[f"pca_{index:02d}_axes"] = part.axes
                components = part.axes.shape[1]
            elif part.mean is not None and part.sd is not None:
                arrays[f"standard_{index:02d}_mean"] = part.mean
                arrays[f"standard_{index:02d}_sd"] = part.sd
            spans.append([part.start, part.stop, components])
        return spans, arrays

    @classmethod
    def from_files(
        cls, spans: Sequence[Sequence[int]], arrays: Mapping[str, NDArray[Any]]
    ) -> Reduction:
        """Inverse of `to_files`; KeyError or ValueError if inconsistent."""
        parts = []
        for index, (start, stop, components) in enumerate(spans):
            if not components:
                mean, sd = (arrays.get(f"standard_{index:02d}_{name}") for name in ("mean", "sd"))
                if any(a is not None and a.shape != (stop - start,) for a in (mean, sd)):
                    raise ValueError(f"term {index} has other columns than it was fitted on")
                parts.append(Part(int(start), int(stop), mean, sd=sd))
                continue
            mean, axes = arrays[f"pca_{index:02d}_mean"], arrays[f"pca_{index:02d}_axes"]
            if mean.shape != (stop - start,) or axes.shape != (stop - start, components):
                raise ValueError(f"pca term {index} has other columns than it was fitted on")
            parts.append(Part(int(start), int(stop), mean, axes))
        return cls(tuple(parts))


def fit_reduction(
    layout: Sequence[Block], blocks: Sequence[BlockOfSlide], seed: int, standardize: bool = False
) -> Reduction:
    """Fit the preprocessing of a layout on the rows (n, F) of the training slides.

    `standardize` all columns but coordinates before taking components.
    """
    parts = []
    for block in layout:
        start, stop, components = block.start, block.stop, block.term.components
        if not components and not (standardize and block.term.name != COORDS):
            parts.append(Part(start, stop))
            continue
        own = [rows_of(b)[:, start:stop] for b in blocks]
        if not components:
            mean, sd = moments(own)
            parts.append(Part(start, stop, mean, sd=sd))
            continue
        mean, axes = principal_axes(own, components, seed, standardize)
        if axes.shape[1] < components:
            warn(
                f"pca:{components}: {sum(map(len, own))} training spots have only {axes.shape[1]} "
                "components, which are used"
            )
        parts.append(Part(start, stop, mean, axes))
    return Reduction(tuple(parts))


def moments(blocks: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
    """Mean and standard deviation (F,) of columns; the latter is 1 for constant ones."""
    n = sum(map(len, blocks))
    mean = np.sum([b.sum(0, dtype=np.float64) for b in blocks], axis=0) / n
    squares = sum(np.square(rows - mean).sum(axis=0) for rows in _in_float64(blocks))
    sd = np.sqrt(squares / n)
    sd = np.where(sd > CONSTANT * np.abs(mean), sd, 1.0)
    return mean.astype(np.float32), sd.astype(np.float32)


def principal_axes(
    blocks: Sequence[Matrix], count: int, seed: int, standardize: bool = False
) -> tuple[Matrix, Matrix]:
    """Mean (F,) and at most `count` leading principal axes (F, count) of the rows of `blocks`.

    Exact if the scatter matrix is cheaper than the randomised search. Rows are centred on the fly:
    scikit-learn's PCA copies all rows into one matrix (17 times the memory at 7,700 rows of 1,280,
    and one to four times the time). With `standardize`, components are those of columns divided by
    their standard deviation, but the axes apply to undivided columns.
    """
    n, f = sum(map(len, blocks)), blocks[0].shape[1]
    mean, sd = moments(blocks)
    if not standardize:
        sd = np.ones_like(sd)
    count = min(count, f, max(n - 1, 1))
    if f <= 2 * (ITERATIONS + 1) * (count + EXTRA):
        scatter = sum(rows.T @ rows for rows in _in_float64(blocks, mean, sd))
        _, vectors = eigh(scatter, subset_by_index=(f - count, f - 1))
        return mean, np.asarray(vectors[:, ::-1] / sd[:, None], dtype=np.float32)
    start = np.random.default_rng(seed).standard_normal((f, min(count + EXTRA, f)))
    basis = np.asarray(start, dtype=np.float32)
    for _ in range(ITERATIONS):
        basis = _orthogonal(_covariance_times(blocks, mean, sd, basis))
    projected = _covariance_times(blocks, mean, sd, basis)
    values, vectors = np.linalg.eigh((basis.T @ projected).astype(np.float64))
    order = np.argsort(values)[::-1][:count]
    return mean, np.asarray(basis @ vectors[:, order] / sd[:, None], dtype=np.float32)


def _in_float64(
    blocks: Sequence[Matrix], mean: Any = 0.0, sd: Any = 1.0
) -> Iterator[NDArray[np.float64]]:
    for block in blocks:
        for at in range(0, len(block), CHUNK):
            yield (block[at : at + CHUNK].astype(np.float64) - mean) / sd


def _orthogonal(basis: Matrix) -> Matrix:
    q, _ = np.linalg.qr(np.asarray(basis, dtype=np.float64))
    return np.asarray(q, dtype=np.float32)


def _covariance_times(blocks: Sequence[Matrix], mean: Matrix, sd: Matrix, basis: Matrix) -> Matrix:
    """Multiply `basis` by the scatter matrix of the standardised rows, without forming it."""
    basis = basis / sd[:, None]
    shift = mean @ basis
    out = np.zeros_like(basis)
    for block in blocks:
        scores = block @ basis - shift
        out += block.T @ scores - np.outer(mean, scores.sum(axis=0))
    return np.asarray(out / sd[:, None])
