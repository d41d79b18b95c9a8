"""The `ridge` and `kernel` models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoboost.regress.heads.base import Array, Arrays, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block, Matrix, rows_of
from histoboost.regress.heads.feature_map import FeatureMap, kernel
from histoboost.regress.heads.kernel_ridge import KernelRidge

#: Training spots at which a kernel model's slopes are evaluated for importances.
SLOPES_AT = 24


@dataclass(frozen=True, eq=False)
class FittedLinear(Fitted):
    """``values @ weights + intercept``."""

    weights: Array
    intercept: Array
    penalty: float

    def predict(self, values: Block) -> Array:
        whole = rows_of(values)
        return np.asarray(whole @ self.weights.astype(np.float32) + self.intercept)

    def importance(self) -> Array | None:
        """Share of the squared weights; standardised features have comparable spread."""
        squares = np.square(self.weights).sum(axis=1)
        return np.asarray(squares / max(float(squares.sum()), 1e-300))

    def to_files(self) -> Files:
        arrays: Arrays = {"weights": self.weights, "intercept": self.intercept}
        return Files({"penalty": self.penalty}, {}, arrays)


@dataclass(frozen=True, eq=False)
class FittedKernel(Fitted):
    """Ridge regression on similarities to training spots."""

    features: FeatureMap
    weights: Array
    intercept: Array
    penalty: float

    @property
    def similarities(self) -> FeatureMap | None:
        return self.features if self.features.width > 0 else None

    def predict(self, values: Block) -> Array:
        return np.concatenate(list(self.features.map_pieces(values, self.predict_mapped)))

    def predict_mapped(self, _: slice, mapped: Matrix) -> Array:
        """`predict` from rows (m, k) mapped by `features`."""
        return np.asarray(mapped @ self.weights + self.intercept)

    def importance(self) -> Array | None:
        """Share of the squared slopes of predictions, averaged over some training spots."""
        rows, width = self.features.landmarks, self.features.width
        slopes = np.zeros(rows.shape[1])
        dual = (self.features.root @ self.weights).astype(np.float32)
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), SLOPES_AT)).astype(int)]
        for row, near in zip(some, kernel(some, rows, width), strict=True):
            pull = near[:, None] * dual
            gradient = (pull.T @ rows - np.outer(pull.sum(axis=0), row)) * self.features.scale
            slopes += np.einsum("tf,tf->f", gradient, gradient)
        total = float(slopes.sum())
        return np.asarray(slopes / total if total > 0 else slopes)

    def to_files(self) -> Files:
        arrays: Arrays = {
            "centre": self.features.centre,
            "landmarks": self.features.landmarks,
            "root": self.features.root,
            "weights": self.weights,
            "intercept": self.intercept,
        }
        if len(self.features.scale) > 1:
            arrays["scale"] = self.features.scale
        return Files({"penalty": self.penalty, "width": self.features.width}, {}, arrays)


class RidgeHead:
    """Linear ridge regression of all types at once, its penalty chosen by inner folds.

    With the option ``alpha``: scikit-learn's Ridge with this penalty, in float64.
    """

    def fit(self, training: Training) -> FittedLinear:
        if "alpha" in training.options:
            from sklearn.linear_model import Ridge  # predicting does without

            alpha = float(training.options["alpha"])
            plain = Ridge(alpha=alpha, solver="cholesky", copy_X=False)
            blocks = [rows_of(block) for block in training.blocks]
            rows = np.concatenate(blocks).astype(np.float64)
            targets, weights = np.concatenate(training.targets), np.concatenate(training.weights)
            plain.fit(rows, targets, weights)
            coefficients = np.ascontiguousarray(np.reshape(plain.coef_, (targets.shape[1], -1)).T)
            return FittedLinear(coefficients, np.ravel(plain.intercept_), alpha)
        ridge = KernelRidge.fit(training, gaussian=False)
        features, weights = ridge.features, ridge.weights
        if len(features.landmarks):
            weights = features.landmarks.T @ (features.root @ weights)
        intercept = ridge.intercept - features.centre @ weights
        return FittedLinear(weights * features.scale[:, None], intercept, ridge.penalty)

    def load(self, files: Files) -> FittedLinear:
        weights, intercept = files.arrays["weights"], files.arrays["intercept"]
        if weights.ndim != 2 or intercept.shape != weights.shape[1:]:
            raise ValueError("weights and intercept do not fit each other")
        return FittedLinear(weights, intercept, float(files.fields["penalty"]))


class KernelHead:
    """Ridge regression with a Gaussian kernel as wide as the median distance between spots."""

    def fit(self, training: Training) -> FittedKernel:
        return fitted_kernel(KernelRidge.fit(training, gaussian=True))

    def load(self, files: Files) -> FittedKernel:
        names = ("landmarks", "root", "weights", "centre", "intercept")
        landmarks, root, weights, centre, intercept = (files.arrays[name] for name in names)
        shapes = (landmarks.shape[:1], centre.shape, root.shape[1:], intercept.shape)
        if shapes != (root.shape[:1], landmarks.shape[1:], weights.shape[:1], weights.shape[1:]):
            raise ValueError("landmarks and weights do not fit each other")
        scale = files.arrays.get("scale", np.ones(1, np.float32))  # 0.1.0 had none
        if scale.shape not in (centre.shape, (1,)):
            raise ValueError("scale and landmarks do not fit each other")
        features = FeatureMap(centre, float(files.fields["width"]), landmarks, root, scale)
        return FittedKernel(features, weights, intercept, float(files.fields["penalty"]))


def fitted_kernel(ridge: KernelRidge) -> FittedKernel:
    """Keep only what prediction needs."""
    return FittedKernel(ridge.features, ridge.weights, ridge.intercept, ridge.penalty)
