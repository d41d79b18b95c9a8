"""The `stack` head: LightGBM on what kernel ridge says of slides it has not seen.

Kernel ridge finds the smooth part of the relation between thousands of features and all cell types
at once, which trees on single features cannot; one LightGBM per cell type then learns, from few
columns, where it errs on slides it was not trained on (stacked generalisation, Wolpert 1992).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import eigh
from sklearn.base import clone

from histoboost.errors import HistoboostWarning
from histoboost.regress.boosting import MultiTargetLGBM
from histoboost.regress.heads.base import Array, Arrays, Matrix, Training, register
from histoboost.regress.heads.ridge import FittedKernel, KernelHead
from histoboost.regress.kernel_ridge import Gram, choose_penalty, fit_map, sum_grams
from histoboost.regress.training import Task

#: Kernel principal components that the trees see beside the predictions.
COMPONENTS = 40
#: Share of the trees in the sum; the rest is the kernel's.
SHARE = 0.5
#: Share of the kernel ridge in the training, at 7,700 spots, 3,840 features and 35 types.
COMMON_SHARE = 0.4
#: LightGBM's parameters where they differ from those for thousands of columns.
DEFAULTS: Mapping[str, Any] = {
    "n_estimators": 200,
    "num_leaves": 4,
    "feature_fraction": 0.2,
    "min_child_samples": 10,
    "bagging_fraction": 0.7,
    "extra_trees": True,
}


@dataclass(frozen=True, eq=False)
class FittedStack:
    """Mean of a kernel model and of trees that correct it.

    Attributes
    ----------
    kernel : FittedKernel
    axes : ndarray of shape (k, COMPONENTS)
        Principal axes of the kernel's columns.
    trees : MultiTargetLGBM or None
        Columns: scores on the axes, then the kernel's predictions. None where there was one
        training group and thus nothing to correct by.
    types : tuple of int or None
        The types that are predicted, those of the trees; all where None.
    """

    kernel: FittedKernel
    axes: Array
    trees: MultiTargetLGBM | None
    types: tuple[int, ...] | None = None

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        mapped = self.kernel.features.apply(values)
        smooth = np.asarray(mapped @ self.kernel.weights + self.kernel.intercept)
        # Trees of a few types look at the kernel's predictions of all.
        own = smooth if self.types is None else smooth[:, self.types]
        if self.trees is None:
            return own
        columns = _columns(mapped, self.axes, smooth)
        return SHARE * self.trees.predict_rows(columns) + (1 - SHARE) * own

    def importance(self) -> Array | None:
        """The kernel's: the trees see no single feature."""
        return self.kernel.importance()

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """Those of the kernel, the axes, and one text per cell type."""
        fields, texts, arrays = self.kernel.to_files()
        arrays["axes"] = self.axes
        if self.trees is not None:
            texts = {f"lightgbm_{i:03d}": text for i, text in enumerate(self.trees.texts_)}
        return {**fields, "models": len(texts)}, texts, arrays

    @property
    def texts(self) -> list[str]:
        """See `TypeModels`."""
        return [] if self.trees is None else list(self.trees.texts_)

    def completed(self, texts: Sequence[str]) -> FittedStack:
        """See `TypeModels`."""
        trees = MultiTargetLGBM.from_texts(texts, "model") if texts else None
        return replace(self, trees=trees, types=None)


@dataclass(frozen=True, eq=False)
class BegunStack:
    """Kernel ridge, and what the trees are to learn from, binned; None where there is nothing."""

    kernel: FittedKernel
    axes: Array
    trees: MultiTargetLGBM
    task: Task | None

    def grow(self, types: Sequence[int]) -> FittedStack:
        """See `Begun`."""
        trees = None if self.task is None else clone(self.trees).fit_task(self.task, types)
        every = len(types) == self.kernel.weights.shape[1]
        return FittedStack(self.kernel, self.axes, trees, None if every else tuple(types))


@register("stack")
class StackHead:
    """Kernel ridge, and LightGBM on its predictions for held-out groups."""

    def fit(self, training: Training) -> FittedStack:
        """See `Head`."""
        return self.begin(training).grow(range(training.targets[0].shape[1]))

    def common_share(self, options: Mapping[str, Any]) -> float:
        """See `DivisibleHead`."""
        return COMMON_SHARE

    def begin(self, training: Training) -> BegunStack:
        """See `DivisibleHead`."""
        trees = MultiTargetLGBM(
            n_jobs=training.jobs, random_state=training.seed, **{**DEFAULTS, **training.options}
        )
        features = fit_map(training.blocks, True, training.weights, training.seed)
        mapped = [features.apply(block) for block in training.blocks]
        grams = [
            Gram.of(x, y, w)
            for x, y, w in zip(mapped, training.targets, training.weights, strict=True)
        ]
        penalty = choose_penalty(mapped, training.targets, grams, training.groups)
        total = sum_grams(grams)
        weights, intercept = total.solve([penalty])[0]
        kernel = FittedKernel(features, weights, intercept, penalty)
        axes = _principal_axes(total)
        if len(set(training.groups)) < 2:
            warnings.warn(
                "stack: one training slide (or group) leaves none to hold out; kernel ridge is "
                "used alone",
                HistoboostWarning,
                stacklevel=2,
            )
            return BegunStack(kernel, axes, trees, None)
        held_out = _held_out(mapped, grams, training.groups, penalty)
        task = trees.bin_blocks(
            [_columns(x, axes, p) for x, p in zip(mapped, held_out, strict=True)],
            np.concatenate(training.targets),
            np.concatenate(training.weights),
        )
        return BegunStack(kernel, axes, trees, task)

    def load(
        self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays
    ) -> FittedStack:
        """See `Head`."""
        kernel = KernelHead().load(fields, texts, arrays)
        axes, count = arrays["axes"], int(fields["models"])
        if axes.ndim != 2 or len(axes) != len(kernel.weights):
            raise ValueError("axes and weights do not fit each other")
        if not count:
            return FittedStack(kernel, axes, None)
        ordered = [texts[f"lightgbm_{i:03d}"] for i in range(count)]
        trees = MultiTargetLGBM.from_texts(ordered, "model")
        if count != kernel.weights.shape[1] or trees.n_features_in_ != axes.shape[1] + count:
            raise ValueError("trees and kernel do not fit each other")
        return FittedStack(kernel, axes, trees)


def _columns(mapped: Matrix, axes: Array, predicted: Array) -> Matrix:
    """What the trees see, (n, COMPONENTS + T)."""
    return np.concatenate([mapped @ axes, predicted], axis=1, dtype=np.float32)


def _principal_axes(gram: Gram) -> Array:
    """Leading eigenvectors of the weighted scatter matrix, (k, COMPONENTS or fewer)."""
    mean = gram.sum_x / gram.weight
    scatter = gram.xx - gram.weight * np.outer(mean, mean)
    k = len(scatter)
    _, vectors = eigh(scatter, subset_by_index=(max(k - COMPONENTS, 0), k - 1))
    return np.asarray(vectors[:, ::-1])


def _held_out(
    mapped: Sequence[Matrix], grams: Sequence[Gram], groups: Sequence[str], penalty: float
) -> list[Array]:
    """Kernel predictions for every training slide by the slides of all other groups."""
    total = sum_grams(grams)
    predicted: dict[int, Array] = {}
    for name in dict.fromkeys(groups):
        held = [i for i, group in enumerate(groups) if group == name]
        rest = total - sum_grams([grams[i] for i in held])
        weights, intercept = rest.solve([penalty])[0]
        for i in held:
            predicted[i] = np.asarray(mapped[i] @ weights + intercept)
    return [predicted[i] for i in range(len(groups))]
