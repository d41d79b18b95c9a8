"""Gram matrices: sufficient statistics for ridge regression and its held-out error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from histoboost.regress.heads.base import Array
from histoboost.regress.heads.blocks import Matrix

#: Candidate penalties, as multiples of the mean squared length of the centred features. A few
#: donors that differ from each other need the largest.
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3)
#: Centred over total sum of squares below which features count as constant.
FLAT = 1e-6


#: Weights (k, T) and intercept (T,).
Solution = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Gram:
    """Weighted sums over spots; groups are added and left out by + and -."""

    weight: float
    sum_x: Array
    sum_y: Array
    xx: Array
    xy: Array
    yy: Array

    @classmethod
    def from_rows(cls, x: Matrix, y: Array, w: Array) -> Gram:
        """Sum over mapped features (n, k), targets (n, T) and weights (n,)."""
        # numpy computes only half of the symmetric product of x with itself.
        weighted = x if (w == 1).all() else x * w[:, None].astype(np.float32)
        xx = (weighted.T @ x).astype(np.float64)
        xy = np.ascontiguousarray((y.T @ weighted).T)  # three times as fast as weighted.T @ y
        sums = weighted.sum(0, dtype=np.float64), w @ y
        return cls(float(w.sum()), *sums, xx, xy, w @ (y * y))

    def __add__(self, other: Gram) -> Gram:
        return Gram(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __iadd__(self, other: Gram) -> Gram:
        """Add into the arrays of this one."""
        for f in fields(self)[1:]:
            np.add(getattr(self, f.name), getattr(other, f.name), out=getattr(self, f.name))
        return replace(self, weight=self.weight + other.weight)

    def __sub__(self, other: Gram) -> Gram:
        return Gram(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @cached_property
    def centred(self) -> tuple[Array, Array]:
        """Centred scatter matrices: features (k, k), and features with targets (k, T)."""
        mean_x, mean_y = self.sum_x / self.weight, self.sum_y / self.weight
        xx = self.xx - self.weight * np.outer(mean_x, mean_x)
        return xx, self.xy - self.weight * np.outer(mean_x, mean_y)

    @cached_property
    def flat(self) -> bool:
        """Whether the features are constant up to rounding."""
        return float(np.trace(self.centred[0])) <= FLAT * max(float(np.trace(self.xx)), 1e-12)

    def solve(self, mixture: Mapping[int, Array], shrink: Array) -> Solution:
        """Weights (k, T) and intercepts (T,) of a mixture of ridge solutions.

        `mixture` maps the index of a penalty to the share (T,) of its solution; weights are
        multiplied by `shrink` (T,), and 0 if features are flat.
        """
        xx, xy = self.centred
        unit, weights = float(np.trace(xx)) / self.weight, np.zeros_like(xy)
        for number, share in ({} if self.flat else mixture).items():
            own = np.flatnonzero(share)
            solved = self._solve(xx, xy[:, own], PENALTIES[number] * unit)
            weights[:, own] += solved * (share * shrink)[own]
        return weights, self.sum_y / self.weight - self.sum_x / self.weight @ weights

    def error(self, weights: Array, intercept: Array) -> Array:
        """Mean squared error (T,) of a solution on these spots."""
        squares = np.einsum("kt,kt->t", weights, self.xx @ weights - 2 * self.xy) + self.yy
        crossed = 2 * (self.sum_x @ weights - self.sum_y) + self.weight * intercept
        return np.asarray(np.maximum((squares + intercept * crossed) / self.weight, 0.0))

    def _solve(self, xx: Array, xy: Array, damping: float) -> Array:
        rounding = float(np.finfo(np.float32).eps * np.trace(self.xx))
        while True:
            damped = xx.copy()
            damped[np.diag_indices(len(xx))] += damping
            try:
                factor = cho_factor(damped, lower=True, overwrite_a=True)
            except np.linalg.LinAlgError:  # penalty below the rounding of float32 sums
                damping = max(10 * damping, rounding)
                continue
            return np.ascontiguousarray(cho_solve(factor, xy))
