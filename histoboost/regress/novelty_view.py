"""One view of embeddings: where the training spots lie in it, and how far from them others do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.features import EPSILON
from histoboost.regress.reduce import principal_axes

Array = NDArray[np.float64]
Matrix = NDArray[np.float32]
#: Embeddings of some spots, one matrix (n, width) each.
Parts = Sequence[Matrix]

COMPONENTS = 32
NEAREST = 5
#: Deviations from the training spots at which a feature is cut off: one that never fired in
#: training must not decide alone.
FAR = 8.0


@dataclass(frozen=True, eq=False)
class View:
    """One view of F features, and where the M training spots lie in it.

    Attributes
    ----------
    mean, scale : ndarray of shape (F,), float32
        What is taken from every feature, and what it is multiplied by.
    axes : ndarray of shape (F, K), float32
        Orthonormal.
    spots : ndarray of shape (M, K + 1), float32
        Along the axes, and the distance from what they span.
    far : float
        Distance that counts as 1.
    """

    mean: Matrix
    scale: Matrix
    axes: Matrix
    spots: Matrix
    far: float = 1.0

    def place(self, parts: Iterable[Matrix]) -> Matrix:
        """Where the spots with these embeddings lie, (n, K + 1)."""
        along, square = np.zeros((1, self.axes.shape[1])), np.zeros(1)
        start = 0
        for part in parts:
            own = slice(start, start + part.shape[1])
            scaled = _scaled(part, self.mean[own], self.scale[own])
            along = along + scaled @ self.axes[own]
            square = np.asarray(square + np.einsum("ij,ij->i", scaled, scaled))
            start = own.stop
        beside = np.sqrt(np.maximum(square - np.einsum("ij,ij->i", along, along), 0))
        return np.concatenate([along, beside[:, None]], axis=1).astype(np.float32)


def fit_view(slides: Sequence[Parts], variance: Array | None, seed: int) -> View:
    """Axes of some spots of every slide, scaled by their variance within slides where given."""
    widths = [part.shape[1] for part in slides[0]]
    weights = np.concatenate([np.full(width, 1 / np.sqrt(width)) for width in widths])
    mean = np.zeros(sum(widths), np.float32)
    if variance is not None:
        weights /= np.sqrt(variance + EPSILON)
        sums = [np.concatenate([part.mean(0) for part in parts]) for parts in slides]
        mean = np.asarray(np.mean(sums, axis=0, dtype=np.float64), dtype=np.float32)
    scale = np.asarray(weights, dtype=np.float32)
    ends = np.cumsum(widths)[:-1]
    own = list(zip(np.split(mean, ends), np.split(scale, ends), strict=True))
    rows = [
        np.concatenate([_scaled(part, *each) for part, each in zip(parts, own, strict=True)], 1)
        for parts in slides
    ]
    _, axes = principal_axes(rows, COMPONENTS, seed)
    view = View(mean, scale, axes, np.zeros((0, axes.shape[1] + 1), np.float32))
    return View(mean, scale, axes, np.concatenate([view.place(parts) for parts in slides]))


def _scaled(part: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """Centred and scaled columns of one embedding, each cut off at `FAR` of its deviations."""
    limit = np.float32(FAR / np.sqrt(part.shape[1]))
    return np.asarray(np.clip((part - mean) * scale, -limit, limit))


def distance(spots: Matrix, others: Matrix) -> Array:
    """Mean distance (n,) to the nearest of others; a thousand spots at a time."""
    far = others.astype(np.float64)
    length, found = (far**2).sum(axis=1), []
    for start in range(0, len(spots), 1000):
        near = spots[start : start + 1000].astype(np.float64)
        square = (near**2).sum(axis=1)[:, None] + length - 2 * near @ far.T
        nearest = np.partition(square, NEAREST - 1, axis=1)[:, :NEAREST]
        found.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.concatenate(found)
