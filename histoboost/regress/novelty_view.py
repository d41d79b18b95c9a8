"""One view of the embeddings for novelty: projection, and distance to the training spots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from histoboost.regress.features import EPSILON
from histoboost.regress.heads.base import Array
from histoboost.regress.heads.blocks import Matrix
from histoboost.regress.reduce import principal_axes

#: Embeddings of some spots, (n, width) each.
Parts = Sequence[Matrix]

COMPONENTS = 32
NEAREST = 5
#: Standard deviations at which features are clipped: one that never fired in training must not
#: dominate.
FAR = 8.0


@dataclass(frozen=True, eq=False)
class View:
    """Projection of centred and scaled features on orthonormal `axes` (F, K).

    `spots` (M, K + 1) are the projected training spots, `far` is the unit of distance.
    """

    mean: Matrix
    scale: Matrix
    axes: Matrix
    spots: Matrix
    far: float = 1.0

    def project(self, parts: Iterable[Matrix]) -> Matrix:
        """Coordinates of spots along the axes, and their distance from the span, (n, K + 1)."""
        along, square = np.zeros((1, self.axes.shape[1])), np.zeros(1)
        start = 0
        for part in parts:
            own = slice(start, start + part.shape[1])
            scaled = _scaled(part, self.mean[own], self.scale[own])
            along = along + scaled @ self.axes[own]
            square = np.asarray(square + np.einsum("ij,ij->i", scaled, scaled))
            start = own.stop
        residual = np.sqrt(np.maximum(square - np.einsum("ij,ij->i", along, along), 0))
        return np.concatenate([along, residual[:, None]], axis=1).astype(np.float32)


def fit_view(slides: Sequence[Parts], variance: Array | None, seed: int) -> View:
    """Fit a view on spots of each slide, scaled by the variance within slides if given."""
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
    return replace(view, spots=np.concatenate([view.project(parts) for parts in slides]))


def _scaled(part: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """Centre, scale and clip the columns of one embedding."""
    limit = np.float32(FAR / np.sqrt(part.shape[1]))
    return np.asarray(np.clip((part - mean) * scale, -limit, limit))


def distance(spots: Matrix, others: Matrix) -> Array:
    """Mean distance (n,) to the `NEAREST` of others; a thousand spots at a time."""
    reference = others.astype(np.float64)
    length, found = (reference**2).sum(axis=1), []
    for start in range(0, len(spots), 1000):
        part = spots[start : start + 1000].astype(np.float64)
        square = (part**2).sum(axis=1)[:, None] + length - 2 * part @ reference.T
        nearest = np.partition(square, NEAREST - 1, axis=1)[:, :NEAREST]
        found.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.concatenate(found)
