"""Features to the columns that ridge regression is solved in: as they are, or similarities.

Where rows or features are many, rows are expressed by their similarity to `LANDMARKS` training
spots (Nystroem), which is exact as long as there are no more spots than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve

from histoboost.regress.heads.base import Training

#: Spots that the similarities are taken to, at most.
LANDMARKS = 1024
#: Squared width of the Gaussian kernel, as a share of the median squared distance.
WIDTH = 0.5
#: Ridge penalty where columns are told by others, see `FeatureMap.complete`.
COMPLETION = 0.1
#: Rows for which similarities are held at once.
CHUNK = 1024

Array = NDArray[np.float64]


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

    centre: NDArray[np.float32]
    width: float
    landmarks: NDArray[np.float32]
    root: NDArray[np.float32]
    scale: NDArray[np.float32]

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, F) to (n, k), float32."""
        if not len(self.landmarks):
            return self._prepare(values)
        parts = [
            kernel(self._prepare(values[i : i + CHUNK]), self.landmarks, self.width) @ self.root
            for i in range(0, len(values), CHUNK)
        ]
        return np.concatenate(parts)

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

    def _prepare(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = values * self.scale
        return unit_rows(scaled) if self.width > 0 else scaled - self.centre


def unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.asarray(values / np.where(lengths > 0, lengths, 1)[:, None])


def kernel(a: NDArray[np.float32], b: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Similarities (n, m): inner products, or ``exp(-d^2 / width)`` where `width` is positive."""
    products: NDArray[np.float32] = a @ b.T
    if width <= 0:
        return products
    products *= -2
    products += np.einsum("ij,ij->i", a, a)[:, None]
    products += np.einsum("ij,ij->i", b, b)
    np.maximum(products, 0, out=products)
    products /= -width
    return np.asarray(np.exp(products, out=products))


def fit_map(training: Training, gaussian: bool) -> FeatureMap:
    """Centre and landmarks, from training spots only.

    Landmarks are drawn without replacement with probabilities that follow `weights`, so that a
    small slide that counts as much as a large one is as well described.
    """
    blocks, weights, scale = training.blocks, training.weights, training.scale
    n, f = sum(map(len, blocks)), blocks[0].shape[1]
    centre = np.zeros(f, np.float32)
    if not gaussian:
        total = np.float32(sum(float(w.sum()) for w in weights))
        for w, block in zip(weights, blocks, strict=True):
            centre += w.astype(np.float32) @ block / total
        centre *= scale
    if not gaussian and f <= min(n, LANDMARKS):
        nothing = np.empty((0, f), np.float32)
        return FeatureMap(centre, 0.0, nothing, np.empty((0, 0), np.float32), scale)
    chosen = np.arange(n)
    if n > LANDMARKS:
        p = np.concatenate(weights)
        rng = np.random.default_rng(training.seed)
        chosen = np.sort(rng.choice(n, LANDMARKS, replace=False, p=p / p.sum()))
    starts = np.concatenate([[0], np.cumsum([len(b) for b in blocks])])
    landmarks = np.empty((len(chosen), f), np.float32)  # filled in place: it may be large
    for block, start, stop in zip(blocks, starts[:-1], starts[1:], strict=True):
        own = (chosen >= start) & (chosen < stop)
        rows = block[chosen[own] - start] * scale
        landmarks[own] = unit_rows(rows) if gaussian else rows - centre
    width = WIDTH * _median_distance(landmarks) if gaussian else 0.0
    values, vectors = eigh(kernel(landmarks, landmarks, width).astype(np.float64))
    kept = values > values[-1] * 1e-7  # below lies the rounding of float32 products
    root = vectors[:, kept] / np.sqrt(values[kept])
    root = np.ascontiguousarray(root, dtype=np.float32)
    return FeatureMap(centre, width, landmarks, root, scale)


def _median_distance(rows: NDArray[np.float32]) -> float:
    """Median squared distance between rows; 1 where all are the same."""
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = squares[:, None] + squares - 2 * (rows @ rows.T)
    median = float(np.median(distances[np.triu_indices(len(rows), 1)])) if len(rows) > 1 else 0.0
    return median if median > 0 else 1.0
