"""Ridge regression of all targets at once, linear or with a Gaussian kernel.

Everything is solved from one Gram matrix per group of slides, accumulated piece by piece: leaving a
group out is a subtraction and its squared error a product, so choosing the penalty by inner folds
costs a few Cholesky factorisations, and memory does not grow with the number of spots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from histoboost.errors import warn
from histoboost.regress.budget import cores
from histoboost.regress.heads.base import Array, Training, group_members
from histoboost.regress.heads.blocks import Matrix, Rows
from histoboost.regress.heads.feature_map import FeatureMap, fit_map
from histoboost.regress.heads.gram import PENALTIES, Gram, Solution

#: The penalty if there are no inner folds.
MIDDLE = 3.0
#: Held-out squared error relative to predicting the mean, from which nothing counts as learned.
LEAST_GAIN = 0.99
#: Shares are shrunk towards their mean by g / (g + PRIOR_GROUPS) for g training groups: what a few
#: groups have in common may not hold for the next. A factor from inner folds would be 1 where
#: shrinkage is needed most: two donors that agree say nothing about a third.
PRIOR_GROUPS = 0.25
#: Training spots up to which mapped rows are kept and errors computed from them; beyond, only a
#: sample is kept and errors are computed from the Gram matrices.
HELD_SPOTS = 1 << 15

Penalties = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """A fitted ridge regression with its training statistics.

    `mapped` are the rows `kept` (ascending) of each slide, mapped by `features`. `folds` are the
    slides of each inner fold, `groups` their Gram matrices, `total` the sum. `common` and `own`
    (T,) index the penalty best for all targets of a part, and best for each target; the solution,
    `weights` (k, T) and `intercept` (T,), is the mean of both, so that a target that is hard to
    learn neither follows the others nor overfits. Weights are multiplied by `shrink` (T,).
    """

    features: FeatureMap
    kept: list[Rows]
    mapped: list[Matrix]
    folds: list[list[int]]
    groups: list[Gram]
    total: Gram
    common: Penalties
    own: Penalties
    shrink: Array
    weights: Array
    intercept: Array

    @classmethod
    def fit(
        cls, training: Training, gaussian: bool, rows: Sequence[Rows] | None = None
    ) -> KernelRidge:
        """Fit with the penalties of least squared error on inner folds, all weighted equally.

        A single part of targets has one penalty; a single group has the `MIDDLE` one.
        """
        features = fit_map(training, gaussian)
        sizes = list(map(len, training.targets))
        hold = sum(sizes) <= HELD_SPOTS
        kept = list(map(np.arange, sizes)) if hold else list(rows or [np.arange(0)] * len(sizes))
        folds = group_members(training.groups)
        found = [_gram(features, training, i, own) for i, own in enumerate(kept)]
        groups = [reduce(Gram.__add__, [found[i][0] for i in held]) for held in folds]
        mapped = [x for _, x in found]
        total, count = reduce(Gram.__add__, groups), training.targets[0].shape[1]
        if total.flat:
            warn(
                "features: do not vary across the training spots, so every prediction is the mean "
                "profile"
            )
        common = np.full(count, PENALTIES.index(MIDDLE))
        own, hopeless, shrink = common, np.ones(count, bool), np.ones(count)
        if len(training.parts) > 1:
            shrink[training.parts[2]] = len(folds) / (len(folds) + PRIOR_GROUPS)
        if len(folds) > 1:
            errors, plain = np.zeros((len(PENALTIES), count)), np.zeros(count)
            for held, gram in zip(folds, groups, strict=True):
                others = total - gram
                x = [mapped[i] for i in held] if hold else None
                y = [training.targets[i] for i in held]
                mean = np.zeros_like(gram.xy), others.sum_y / others.weight
                plain += _error(mean, gram, x, y)
                for at in range(len(PENALTIES)):
                    solution = others.solve({at: np.ones(count)}, shrink)
                    errors[at] += _error(solution, gram, x, y)
            hopeless = errors.min(axis=0) >= LEAST_GAIN * plain
            for part in training.parts:
                common[part] = np.argmin(errors[:, part].sum(axis=1))
            own = common if len(training.parts) == 1 else np.argmin(errors, axis=0)
        weights, intercept = total.solve(_mean_of(common, own), shrink)
        # Totals, the last joint target, stay at their mean if they cannot be predicted.
        if len(training.parts) > 1 and hopeless[-1]:
            weights[:, -1] = intercept[-1] = 0.0
        return cls(
            features, kept, mapped, folds, groups, total, common, own, shrink, weights, intercept
        )

    @property
    def penalty(self) -> float:
        """The common penalty of the first part."""
        return PENALTIES[int(self.common[0])]

    def unseen(self, axes: Array, rows: Sequence[Rows]) -> tuple[list[Matrix], list[Matrix]]:
        """Held-out predictions (m, T) for kept rows of each slide, and their scores (m, K).

        Scores are coordinates along `axes` (k, K); predictions are by all other groups.
        """
        scores: dict[int, Matrix] = {}
        predicted: dict[int, Matrix] = {}
        mixture = _mean_of(self.common, self.own)
        for held, gram in zip(self.folds, self.groups, strict=True):
            weights, intercept = (self.total - gram).solve(mixture, self.shrink)
            for i in held:
                x = self.mapped[i][np.searchsorted(self.kept[i], rows[i])]
                scores[i] = (x @ axes).astype(np.float32)
                predicted[i] = (x @ weights + intercept).astype(np.float32)
        slides = range(len(rows))
        return [scores[i] for i in slides], [predicted[i] for i in slides]

    def principal_axes(self, count: int) -> Array:
        """Leading eigenvectors (k, at most `count`) of the weighted scatter matrix."""
        scatter = self.total.centred[0]
        k = len(scatter)
        _, vectors = eigh(scatter, subset_by_index=(max(k - count, 0), k - 1))
        return np.asarray(vectors[:, ::-1])


def _gram(features: FeatureMap, training: Training, slide: int, kept: Rows) -> tuple[Gram, Matrix]:
    """Gram matrix of one slide, and its `kept` rows, mapped."""
    y, w = training.targets[slide], training.weights[slide]

    def one(rows: slice, x: Matrix) -> tuple[Gram, Matrix]:
        own = kept[slice(*np.searchsorted(kept, (rows.start, rows.stop)))] - rows.start
        return Gram.from_rows(x, y[rows], w[rows]), x if len(own) == len(x) else x[own]

    total, parts = None, []
    for gram, x in features.map_pieces(training.blocks[slide], one, cores(training.jobs)):
        if total is None:
            total = gram
        else:
            total += gram
        parts.append(x)
    if total is None:
        raise ValueError("a slide without spots")
    return total, np.concatenate(parts)


def _error(solution: Solution, gram: Gram, x: Sequence[Matrix] | None, y: Sequence[Array]) -> Array:
    """Mean squared error (T,) on held-out spots, from their mapped rows `x` if kept."""
    weights, intercept = solution
    if x is None:
        return gram.error(weights, intercept)
    predicted = np.concatenate([part @ weights for part in x]) + intercept
    return np.asarray(np.mean((predicted - np.concatenate(y)) ** 2, axis=0))


def _mean_of(common: Penalties, own: Penalties) -> dict[int, Array]:
    """Mixture of penalties, for `Gram.solve`, that averages the solutions `common` and `own`."""
    numbers = np.unique(np.concatenate([common, own]))
    return {int(n): ((common == n) * 1.0 + (own == n)) / 2 for n in numbers}
