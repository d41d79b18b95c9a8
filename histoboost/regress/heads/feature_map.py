"""Features to the columns that ridge regression is solved in: as they are, or similarities.

Where rows or features are many, rows are expressed by their similarity to `LANDMARKS` training
spots (Nystroem), which is exact as long as there are no more spots than that.
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
from histoboost.regress.heads.blocks import Block, draw, pieces_of, row_pieces, rows_of

#: Spots that the similarities are taken to, at most.
LANDMARKS = 1024
#: Squared width of the Gaussian kernel, as a share of the median squared distance.
WIDTH = 0.5
#: Ridge penalty where columns are told by others, see `FeatureMap.complete`.
COMPLETION = 0.1

Matrix = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Features to the columns that the linear solution works in.

    The Gaussian kernel compares rows scaled to unit length: the length of a row of standardised
    features says how unusual a spot is, not in which way, and would dominate the distances.

    Attributes
    ----------
    centre : ndarray of shape (F,), float32
        Mean of the training features; 0 for the Gaussian kernel.
    width : float
        Squared distance at which the Gaussian kernel falls to 1/e; 0 for the linear kernel.
    landmarks : ndarray of shape (m, F), float32
        Features of m training spots, centred or of unit length; empty where the features are used
        as they are.
    root : ndarray of shape (m, k), float32
        Inverse square root of the landmarks' kernel matrix.
    scale : ndarray of shape (F,) or (1,), float32
        What features are multiplied by before anything else.
    """

    centre: Matrix
    width: float
    landmarks: Matrix
    root: Matrix
    scale: Matrix

    def apply(self, values: Block) -> Matrix:
        """(n, F) to (n, k), float32."""
        return np.concatenate(list(self.over(values, lambda _, mapped: mapped)))

    def over(
        self, values: Block, then: Callable[[slice, Matrix], T], threads: int = 1
    ) -> Iterator[T]:
        """`then` of some rows and of what they are mapped to, for all rows in turn.

        Parameters
        ----------
        values : ndarray of shape (n, F), float32, or Rowwise
            Features of one slide.
        then : callable
            Called with some rows (a slice) and their columns (m, k).
        threads : int
            Pieces that are worked on side by side; their number changes no digit.
        """

        def one(rows: slice, part: Matrix) -> T:
            scaled = part * self.scale
            scaled = unit_rows(scaled) if self.width > 0 else scaled - self.centre
            if len(self.landmarks):
                scaled = kernel(scaled, self.landmarks, self.width) @ self.root
            return then(rows, scaled)

        if threads == 1 or len(row_pieces(values.shape[0])) == 1:
            for rows, part in pieces_of(values):
                yield one(rows, part)
            return
        with ThreadPoolExecutor(threads) as pool:
            begun: deque[Future[T]] = deque()
            for rows, part in pieces_of(values):
                begun.append(pool.submit(one, rows, part))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

    def complete(
        self, values: NDArray[np.float32], known: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """What the columns (F - k,) that are not `known` would be, told by the k that are.

        Kernel ridge regression on the landmarks, which are training spots with all columns.
        Whatever the length of a row, it is that of the known columns that counts.
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
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.asarray(values / np.where(lengths > 0, lengths, 1)[:, None])


def kernel(a: Matrix, b: Matrix, width: float) -> Matrix:
    """Similarities (n, m): inner products, or ``exp(-d^2 / width)`` where `width` is positive."""
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
    """Centre and landmarks, from training spots only; see `draw` for which spots these are."""
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
    landmarks = np.empty((ends[-1], f), np.float32)  # filled in place: it may be large
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
    """Median squared distance between rows; 1 where all are the same."""
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = squares[:, None] + squares - 2 * (rows @ rows.T)
    median = float(np.median(distances[np.triu_indices(len(rows), 1)])) if len(rows) > 1 else 0.0
    return median if median > 0 else 1.0
