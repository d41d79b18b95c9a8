"""Map features to the columns of ridge regression: linear, or kernel similarities.

With many rows or features, rows are represented by their similarity to `LANDMARKS` training spots
(Nystroem approximation; exact with no more spots than that).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve

from histoboost.regress.heads.base import Training
from histoboost.regress.heads.blocks import Block, Matrix, draw, pieces_of, row_pieces, rows_of

#: Maximum number of landmarks.
LANDMARKS = 1024
#: Squared width of the Gaussian kernel, as a share of the median squared distance.
WIDTH = 0.5
#: Ridge penalty for estimating missing columns, see `FeatureMap.complete`.
COMPLETION = 0.1

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Map features (n, F) to the columns (n, k) of the linear solution.

    Features are multiplied by `scale` (F,) or (1,), then centred on `centre` (F,) for the linear
    kernel (`width` 0). The Gaussian kernel, which falls to 1/e at squared distance `width`,
    compares rows of unit length: the length of a standardised row says how unusual a spot is, not
    how it is unusual, and would dominate the distances. `landmarks` (m, F) are m training spots,
    empty if features are used directly; `root` (m, k) is the inverse square root of their kernel
    matrix.
    """

    centre: Matrix
    width: float
    landmarks: Matrix
    root: Matrix
    scale: Matrix

    def map_pieces(
        self, values: Block, function: Callable[[slice, Matrix], T], threads: int = 1
    ) -> Iterator[T]:
        """Call `function` on each piece of rows (a slice) and its mapped columns (m, k), in order.

        The number of `threads` changes no digit.
        """

        def one(rows: slice, part: Matrix) -> T:
            scaled = part * self.scale
            scaled = unit_rows(scaled) if self.width > 0 else scaled - self.centre
            if len(self.landmarks):
                scaled = kernel(scaled, self.landmarks, self.width) @ self.root
            return function(rows, scaled)

        if threads == 1 or len(row_pieces(values.shape[0])) == 1:
            for rows, part in pieces_of(values):
                yield one(rows, part)
            return
        with ThreadPoolExecutor(threads) as pool:
            pending: deque[Future[T]] = deque()
            for rows, part in pieces_of(values):
                pending.append(pool.submit(one, rows, part))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def complete(self, values: Matrix, known: NDArray[np.bool_]) -> Matrix:
        """Estimate the columns that are not `known` (F,) by kernel ridge on the landmarks.

        Rows are scaled to unit length over the known columns.
        """
        rows = self.landmarks[:, known]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        rows, others = rows / lengths, self.landmarks[:, ~known] / lengths
        scale = np.broadcast_to(self.scale, known.shape)
        given = values[:, known] * scale[known]
        length = np.linalg.norm(given, axis=1, keepdims=True)
        width = WIDTH * _median_distance(rows)
        near = kernel(unit_rows(given), rows, width).astype(np.float64)
        damped = kernel(rows, rows, width) + COMPLETION * np.eye(len(rows))
        weights = solve(damped, near.T, assume_a="pos").T.astype(np.float32)
        mean = others.mean(axis=0)
        return np.asarray((weights @ (others - mean) + mean) * length / scale[~known])


def unit_rows(values: Matrix) -> Matrix:
    """Scale rows to unit length; rows of zeros are unchanged."""
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.asarray(values / np.where(lengths > 0, lengths, 1)[:, None])


def kernel(a: Matrix, b: Matrix, width: float) -> Matrix:
    """Kernel matrix (n, m): inner products, or ``exp(-d^2 / width)`` for positive `width`."""
    products: Matrix = a @ b.T
    if width > 0:
        products *= -2
        products += np.einsum("ij,ij->i", a, a)[:, None]
        products += np.einsum("ij,ij->i", b, b)
        np.maximum(products, 0, out=products)
        products /= -width
        np.exp(products, out=products)
    return products


def fit_map(training: Training, gaussian: bool) -> FeatureMap:
    """Fit the centre and choose the landmarks, with `draw`, from the training spots."""
    blocks, weights, scale = training.blocks, training.weights, training.scale
    n, f = sum(block.shape[0] for block in blocks), blocks[0].shape[1]
    centre = np.zeros(f, np.float32)
    if not gaussian:
        total = np.float32(sum(float(w.sum()) for w in weights))
        for w, block in zip(weights, blocks, strict=True):
            for own, part in pieces_of(block):
                centre += w[own].astype(np.float32) @ part / total
        centre *= scale
    if not gaussian and f <= min(n, LANDMARKS):
        nothing = np.empty((0, f), np.float32)
        return FeatureMap(centre, 0.0, nothing, np.empty((0, 0), np.float32), scale)
    chosen = draw(weights, LANDMARKS, training.seed)
    ends = np.cumsum([len(each) for each in chosen])
    landmarks = np.empty((ends[-1], f), np.float32)  # filled in place: may be large
    for block, rows, stop in zip(blocks, chosen, ends, strict=True):
        scaled = rows_of(block, rows) * scale
        landmarks[stop - len(rows) : stop] = unit_rows(scaled) if gaussian else scaled - centre
    width = WIDTH * _median_distance(landmarks) if gaussian else 0.0
    values, vectors = eigh(kernel(landmarks, landmarks, width).astype(np.float64))
    kept = values > values[-1] * 1e-7  # below lies the rounding of float32 products
    root = vectors[:, kept] / np.sqrt(values[kept])
    root = np.ascontiguousarray(root, dtype=np.float32)
    return FeatureMap(centre, width, landmarks, root, scale)


def _median_distance(rows: Matrix) -> float:
    """Median squared distance between rows; 1 if they are all equal."""
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = squares[:, None] + squares - 2 * (rows @ rows.T)
    median = float(np.median(distances[np.triu_indices(len(rows), 1)])) if len(rows) > 1 else 0.0
    return median if median > 0 else 1.0
