"""Ridge regression of all targets at once, linear or with a Gaussian kernel.

Everything is solved from one Gram matrix per slide: leaving a slide out is a subtraction, so that
choosing the penalty by inner folds costs a few Cholesky factorisations.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from histoboost.errors import HistoboostWarning
from histoboost.regress.heads.base import Training
from histoboost.regress.heads.feature_map import FeatureMap, fit_map

#: Penalties tried, as multiples of the mean squared length of the (centred) features. A few donors
#: that differ from each other want the largest.
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3)
#: The penalty where there is nothing to choose it by.
MIDDLE = 3.0
#: Squared error on held-out groups, as a share of the mean's, from which on nothing is learned.
LEAST_GAIN = 0.99
#: Groups' worth of doubt: shares are shrunk towards their mean by g / (g + DOUBT) for g training
#: groups, since what a few groups share need not hold for the next (a factor from inner folds was
#: 1 wherever it was needed most: two donors that agree say nothing of a third).
DOUBT = 0.25
#: Share of the features' squares about their mean below which they count as constant.
FLAT = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over the spots of one slide (or several): all that ridge regression needs of them."""

    weight: float
    sum_x: Array
    sum_y: Array
    xx: Array
    xy: Array

    @classmethod
    def of(cls, x: NDArray[np.float32], y: Array, w: Array) -> Gram:
        """From mapped features (n, k), targets (n, T) and weights (n,)."""
        weighted = x * w[:, None].astype(np.float32)
        xx = (weighted.T @ x).astype(np.float64)
        return cls(float(w.sum()), weighted.sum(0, dtype=np.float64), w @ y, xx, weighted.T @ y)

    def __add__(self, other: Gram) -> Gram:
        return Gram(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Gram) -> Gram:
        return Gram(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def centred(self) -> tuple[Array, Array]:
        """Scatter matrix (k, k) of the features about their mean, and with the targets (k, T)."""
        mean_x, mean_y = self.sum_x / self.weight, self.sum_y / self.weight
        xx = self.xx - self.weight * np.outer(mean_x, mean_x)
        return xx, self.xy - self.weight * np.outer(mean_x, mean_y)

    @property
    def flat(self) -> bool:
        """Whether the features vary no more than rounding makes them."""
        return float(np.trace(self.centred()[0])) <= FLAT * max(float(np.trace(self.xx)), 1e-12)

    def solve(self, penalties: Sequence[float], shrink: Array) -> list[tuple[Array, Array]]:
        """Weights (k, T), times `shrink` (T,), and intercepts (T,) for each penalty.

        Weights are 0 where all is flat.
        """
        mean_x, mean_y = self.sum_x / self.weight, self.sum_y / self.weight
        xx, xy = self.centred()
        unit = float(np.trace(xx)) / self.weight
        out = []
        for penalty in penalties:
            weights = np.zeros_like(xy) if self.flat else self._solve(xx, xy, penalty * unit)
            weights *= shrink
            out.append((weights, mean_y - mean_x @ weights))
        return out

    def _solve(self, xx: Array, xy: Array, damping: float) -> Array:
        rounding = float(np.finfo(np.float32).eps * np.trace(self.xx))
        while True:
            damped = xx.copy()
            damped[np.diag_indices(len(xx))] += damping
            try:
                factor = cho_factor(damped, lower=True, overwrite_a=True)
            except np.linalg.LinAlgError:  # the penalty drowns in the rounding of float32 sums
                damping = max(10 * damping, rounding)
                continue
            return np.ascontiguousarray(cho_solve(factor, xy))


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """A solution, and what it was solved from.

    Attributes
    ----------
    features : FeatureMap
    mapped : list of ndarray of shape (n, k), float32
        Training spots in the columns of `features`, slide by slide.
    folds : list of list of int
        Indices of the slides that inner folds hold out together.
    rest : list of list of (weights, intercept)
        For every fold, the solutions on all other slides, one for each penalty.
    total : Gram
    common, own : ndarray of shape (T,), int
        Numbers of the penalties of every target: the one that suits all targets of its part best
        and the one that suits it best; the solution is the mean of both, so that a target that is
        hard to learn neither follows the others nor overfits by itself.
    weights, intercept : ndarray of shape (k, T) and (T,)
    """

    features: FeatureMap
    mapped: list[NDArray[np.float32]]
    folds: list[list[int]]
    rest: list[list[tuple[Array, Array]]]
    total: Gram
    common: NDArray[np.int64]
    own: NDArray[np.int64]
    weights: Array
    intercept: Array

    @classmethod
    def fit(cls, training: Training, gaussian: bool) -> KernelRidge:
        """Solve, with the penalties of least squared error on held-out groups, each counting alike.

        With one part of targets the penalty is common to all. With one group there is nothing to
        hold out; the middle penalty is taken.
        """
        features = fit_map(training, gaussian)
        mapped = [features.apply(block) for block in training.blocks]
        grams = [
            Gram.of(x, y, w)
            for x, y, w in zip(mapped, training.targets, training.weights, strict=True)
        ]
        total = reduce(Gram.__add__, grams)
        if total.flat:
            warnings.warn(
                "features: do not vary across the training spots, so every prediction is the mean "
                "profile",
                HistoboostWarning,
                stacklevel=3,
            )
        folds, count = training.inner_folds(), len(total.sum_y)
        rest: list[list[tuple[Array, Array]]] = []
        common = np.full(count, PENALTIES.index(MIDDLE))
        own, hopeless, shrink = common, np.ones(count, bool), np.ones(count)
        if len(training.parts) > 1:
            shrink[training.parts[2]] = len(folds) / (len(folds) + DOUBT)
        if len(folds) > 1:
            errors, plain = np.zeros((len(PENALTIES), count)), np.zeros(count)
            for held in folds:
                others = total - reduce(Gram.__add__, [grams[i] for i in held])
                true = np.concatenate([training.targets[i] for i in held])
                plain += np.mean((others.sum_y / others.weight - true) ** 2, axis=0)
                rest.append(others.solve(PENALTIES, shrink))
                for at, (weights, intercept) in enumerate(rest[-1]):
                    predicted = np.concatenate([mapped[i] @ weights for i in held]) + intercept
                    errors[at] += np.mean((predicted - true) ** 2, axis=0)
            hopeless = errors.min(axis=0) >= LEAST_GAIN * plain
            for part in training.parts:
                common[part] = np.argmin(errors[:, part].sum(axis=1))
            own = common if len(training.parts) == 1 else np.argmin(errors, axis=0)
        weights, intercept = _mean_of(total.solve(PENALTIES, shrink), common, own)
        # Totals, last of the joint target and relative to their mean, stay the mean where nothing
        # is known to predict them.
        if len(training.parts) > 1 and hopeless[-1]:
            weights[:, -1] = intercept[-1] = 0.0
        return cls(features, mapped, folds, rest, total, common, own, weights, intercept)

    @property
    def penalty(self) -> float:
        """The common penalty of the first part."""
        return PENALTIES[int(self.common[0])]

    def held_out(self) -> list[Array]:
        """Predictions for every training slide by the slides of all other groups."""
        predicted: dict[int, Array] = {}
        for held, solutions in zip(self.folds, self.rest, strict=True):
            weights, intercept = _mean_of(solutions, self.common, self.own)
            predicted |= {i: np.asarray(self.mapped[i] @ weights + intercept) for i in held}
        return [predicted[i] for i in range(len(self.mapped))]

    def principal_axes(self, count: int) -> Array:
        """Leading eigenvectors (k, `count` or fewer) of the weighted scatter matrix."""
        scatter = self.total.centred()[0]
        k = len(scatter)
        _, vectors = eigh(scatter, subset_by_index=(max(k - count, 0), k - 1))
        return np.asarray(vectors[:, ::-1])


def _mean_of(
    solutions: Sequence[tuple[Array, Array]], common: NDArray[np.int64], own: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Mean of two solutions for each target, those numbered `common` and `own`."""
    each = np.arange(len(common))
    weights = np.stack([weights for weights, _ in solutions])
    intercepts = np.stack([intercept for _, intercept in solutions])
    mean = (weights[common, :, each] + weights[own, :, each]).T / 2
    return np.ascontiguousarray(mean), (intercepts[common, each] + intercepts[own, each]) / 2
