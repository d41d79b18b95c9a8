"""The `stack` model: LightGBM on what kernel ridge says of slides it has not seen.

Kernel ridge finds the smooth part of the relation between thousands of features and all cell types
at once, which trees on single features cannot; one LightGBM per cell type then learns, from few
columns, where it errs on slides it was not trained on (stacked generalisation, Wolpert 1992).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from histoboost.errors import HistoboostWarning
from histoboost.regress.heads.base import Array, Files, Matrix, Training
from histoboost.regress.heads.kernel_ridge import KernelRidge
from histoboost.regress.heads.lightgbm import texts_of, trees_from
from histoboost.regress.heads.ridge import FittedKernel, KernelHead, fitted_kernel
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

#: Kernel principal components that the trees see beside the predictions.
COMPONENTS = 40
#: Share of the trees in the sum; the rest is the kernel's.
SHARE = 0.5
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
    """

    kernel: FittedKernel
    axes: Array
    trees: MultiTargetLGBM | None

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        mapped = self.kernel.features.apply(values)
        smooth = self.kernel.predict_mapped(mapped)
        if self.trees is None:
            return smooth
        columns = _columns(mapped, self.axes, smooth)
        return SHARE * self.trees.predict_rows(columns) + (1 - SHARE) * smooth

    def importance(self) -> Array | None:
        """The kernel's: the trees see no single feature."""
        return self.kernel.importance()

    def to_files(self) -> Files:
        """Those of the kernel, the axes, and one text per cell type."""
        fields, _, arrays = self.kernel.to_files()
        texts = {} if self.trees is None else texts_of(self.trees)
        return Files({**fields, "models": len(texts)}, texts, {**arrays, "axes": self.axes})


class StackHead:
    """Kernel ridge, and LightGBM on its predictions for held-out groups."""

    def fit(self, training: Training) -> FittedStack:
        """See `Head`."""
        ridge = KernelRidge.fit(training, gaussian=True)
        kernel, axes = fitted_kernel(ridge), ridge.principal_axes(COMPONENTS)
        if len(set(training.groups)) < 2:
            warnings.warn(
                "stack: one training slide (or group) leaves none to hold out; kernel ridge is "
                "used alone",
                HistoboostWarning,
                stacklevel=2,
            )
            return FittedStack(kernel, axes, None)
        trees = MultiTargetLGBM(
            n_jobs=training.jobs, random_state=training.seed, **{**DEFAULTS, **training.options}
        )
        columns = [
            _columns(mapped, axes, predicted)
            for mapped, predicted in zip(ridge.mapped, ridge.held_out(), strict=True)
        ]
        weights = np.concatenate(training.weights)
        trees.fit_blocks(columns, np.concatenate(training.targets), weights)
        return FittedStack(kernel, axes, trees)

    def load(self, files: Files) -> FittedStack:
        """See `Head`."""
        kernel, axes = KernelHead().load(files), files.arrays["axes"]
        if axes.ndim != 2 or len(axes) != len(kernel.weights):
            raise ValueError("axes and weights do not fit each other")
        if not files.fields["models"]:
            return FittedStack(kernel, axes, None)
        trees, count = trees_from(files), int(files.fields["models"])
        if count != kernel.weights.shape[1] or trees.n_features_in_ != axes.shape[1] + count:
            raise ValueError("trees and kernel do not fit each other")
        return FittedStack(kernel, axes, trees)


def _columns(mapped: Matrix, axes: Array, predicted: Array) -> Matrix:
    """What the trees see, (n, COMPONENTS + T)."""
    return np.concatenate([mapped @ axes, predicted], axis=1, dtype=np.float32)
