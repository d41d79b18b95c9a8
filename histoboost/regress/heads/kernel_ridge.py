"""Ridge regression of all targets at once, linear or with a Gaussian kernel.

Everything is solved from one Gram matrix per group of slides, summed up piece by piece: leaving a
group out is a subtraction and its squared error a product, so that choosing the penalty by inner
folds costs a few Cholesky factorisations, and memory does not grow with the number of spots.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from histoboost.errors import HistoboostWarning
from histoboost.regress.budget import cores
from histoboost.regress.heads.base import Training
from histoboost.regress.heads.feature_map import FeatureMap, fit_map
from histoboost.regress.heads.gram import PENALTIES, Gram, Solution

#: The penalty where there is nothing to choose it by.
MIDDLE = 3.0
#: Squared error on held-out groups, as a share of the mean's, from which on nothing is learned.
LEAST_GAIN = 0.99
#: Groups' worth of doubt: shares are shrunk towards their mean by g / (g + DOUBT) for g training
#: groups, since what a few groups share need not hold for the next (a factor from inner folds was
#: 1 wherever it was needed most: two donors that agree say nothing of a third).
DOUBT = 0.25
#: Training spots up to which what they are mapped to is held, and errors are taken from it; beyond,
#: only of some spots, and errors follow from the Gram matrices.
HELD_SPOTS = 1 << 15

Array = NDArray[np.float64]
Matrix = NDArray[np.float32]
Penalties = NDArray[np.int64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """A solution, and what it was solved from.

    Attributes
    ----------
    features : FeatureMap
    kept : list of ndarray of int
        Training spots that `mapped` holds, slide by slide, ascending.
    mapped : list of ndarray of shape (n, k), float32
        These spots in the columns of `features`.
    folds : list of list of int
        Indices of the slides that inner folds hold out together.
    groups : list of Gram
        Of each of them.
    total : Gram
    common, own : ndarray of shape (T,), int
        Numbers of the penalties of every target: the one that suits all targets of its part best
        and the one that suits it best; the solution is the mean of both, so that a target that is
        hard to learn neither follows the others nor overfits by itself.
    shrink : ndarray of shape (T,)
        What weights are multiplied by.
    weights, intercept : ndarray of shape (k, T) and (T,)
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
        """Solve, with the penalties of least squared error on held-out groups, each counting alike.

        With one part of targets the penalty is common to all. With one group there is nothing to
        hold out; the middle penalty is taken.
        """
        features = fit_map(training, gaussian)
        sizes = list(map(len, training.targets))
        hold = sum(sizes) <= HELD_SPOTS
        kept = list(map(np.arange, sizes)) if hold else list(rows or [np.arange(0)] * len(sizes))
        folds = training.inner_folds()
        of = [_gram(features, training, i, own) for i, own in enumerate(kept)]
        groups = [reduce(Gram.__add__, [of[i][0] for i in held]) for held in folds]
        mapped = [x for _, x in of]
        total, count = reduce(Gram.__add__, groups), training.targets[0].shape[1]
        if total.flat:
            warnings.warn(
                "features: do not vary across the training spots, so every prediction is the mean "
                "profile",
                HistoboostWarning,
                stacklevel=3,
            )
        common = np.full(count, PENALTIES.index(MIDDLE))
        own, hopeless, shrink = common, np.ones(count, bool), np.ones(count)
        if len(training.parts) > 1:
            shrink[training.parts[2]] = len(folds) / (len(folds) + DOUBT)
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
        # Totals, last of the joint target and relative to their mean, stay the mean where nothing
        # is known to predict them.
        if len(training.parts) > 1 and hopeless[-1]:
            weights[:, -1] = intercept[-1] = 0.0
        return cls(
            features,
            kept,
            mapped,
            folds,
            groups,
            total,
            common,
            own,
            shrink,
            weights,
            intercept,
        )

    @property
    def penalty(self) -> float:
        """The common penalty of the first part."""
        return PENALTIES[int(self.common[0])]

    def unseen(self, axes: Array, rows: Sequence[Rows]) -> tuple[list[Matrix], list[Matrix]]:
        """Places along `axes` of some training spots, and predictions by all other groups.

        Parameters
        ----------
        axes : ndarray of shape (k, K)
            Directions in the columns of `features`.
        rows : sequence of ndarray of int
            Which spots of those that are kept, slide by slide.

        Returns
        -------
        list of ndarray of shape (m, K), float32
        list of ndarray of shape (m, T), float32
        """
        places: dict[int, Matrix] = {}
        predicted: dict[int, Matrix] = {}
        wanted = _mean_of(self.common, self.own)
        for held, gram in zip(self.folds, self.groups, strict=True):
            weights, intercept = (self.total - gram).solve(wanted, self.shrink)
            for i in held:
                x = self.mapped[i][np.searchsorted(self.kept[i], rows[i])]
                places[i] = (x @ axes).astype(np.float32)
                predicted[i] = (x @ weights + intercept).astype(np.float32)
        slides = range(len(rows))
        return [places[i] for i in slides], [predicted[i] for i in slides]

    def principal_axes(self, count: int) -> Array:
        """Leading eigenvectors (k, `count` or fewer) of the weighted scatter matrix."""
        scatter = self.total.centred[0]
        k = len(scatter)
        _, vectors = eigh(scatter, subset_by_index=(max(k - count, 0), k - 1))
        return np.asarray(vectors[:, ::-1])


def _gram(features: FeatureMap, training: Training, slide: int, kept: Rows) -> tuple[Gram, Matrix]:
    """Of one slide; and what the spots that are to be kept are mapped to."""
    y, w = training.targets[slide], training.weights[slide]

    def some(rows: slice, x: Matrix) -> tuple[Gram, Matrix]:
        own = kept[slice(*np.searchsorted(kept, (rows.start, rows.stop)))] - rows.start
        return Gram.of(x, y[rows], w[rows]), x if len(own) == len(x) else x[own]

    total, parts = None, []
    for gram, x in features.over(training.blocks[slide], some, cores(training.jobs)):
        if total is None:
            total = gram
        else:
            total += gram
        parts.append(x)
    if total is None:
        raise ValueError("a slide without spots")
    return total, np.concatenate(parts)


def _error(solution: Solution, gram: Gram, x: Sequence[Matrix] | None, y: Sequence[Array]) -> Array:
    """Mean square (T,) of the error for held-out spots, from themselves where they are held."""
    weights, intercept = solution
    if x is None:
        return gram.error(weights, intercept)
    predicted = np.concatenate([part @ weights for part in x]) + intercept
    return np.asarray(np.mean((predicted - np.concatenate(y)) ** 2, axis=0))


def _mean_of(common: Penalties, own: Penalties) -> dict[int, Array]:
    """Shares of the solutions of all penalties in the mean of those numbered `common` and `own`."""
    numbers = np.unique(np.concatenate([common, own]))
    return {int(n): ((common == n) * 1.0 + (own == n)) / 2 for n in numbers}
