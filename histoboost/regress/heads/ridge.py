"""The `ridge` and `kernel` heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.regress.heads.base import Array, Arrays, Fitted, Matrix, Training, register
from histoboost.regress.kernel_ridge import (
    FeatureMap,
    Gram,
    choose_penalty,
    fit_map,
    kernel,
    sum_grams,
)

#: Training spots at which a kernel model's slopes are taken, to tell its features apart.
SLOPES_AT = 24


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """``values @ weights + intercept``."""

    weights: Array
    intercept: Array
    penalty: float

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        return np.asarray(values @ self.weights.astype(np.float32) + self.intercept)

    def importance(self) -> Array | None:
        """Share of the squared weights: features are of comparable spread once standardised."""
        squares = np.square(self.weights).sum(axis=1)
        return np.asarray(squares / max(float(squares.sum()), 1e-300))

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """Two arrays."""
        arrays: Arrays = {"weights": self.weights, "intercept": self.intercept}
        return {"penalty": self.penalty}, {}, arrays


@dataclass(frozen=True, eq=False)
class FittedKernel:
    """Ridge regression on similarities to training spots."""

    features: FeatureMap
    weights: Array
    intercept: Array
    penalty: float

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        return np.asarray(self.features.apply(values) @ self.weights + self.intercept)

    def importance(self) -> Array | None:
        """Share of the squared slopes of the predictions, averaged over some training spots."""
        rows, width = self.features.landmarks, self.features.width
        slopes = np.zeros(rows.shape[1])
        dual = (self.features.root @ self.weights).astype(np.float32)
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), SLOPES_AT)).astype(int)]
        for row, near in zip(some, kernel(some, rows, width), strict=True):
            pull = near[:, None] * dual
            gradient = pull.T @ rows - np.outer(pull.sum(axis=0), row)
            slopes += np.einsum("tf,tf->f", gradient, gradient)
        total = float(slopes.sum())
        return np.asarray(slopes / total if total > 0 else slopes)

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """The landmarks and what they count."""
        arrays: Arrays = {
            "centre": self.features.centre,
            "landmarks": self.features.landmarks,
            "root": self.features.root,
            "weights": self.weights,
            "intercept": self.intercept,
        }
        return {"penalty": self.penalty, "width": self.features.width}, {}, arrays


def _solve(training: Training, gaussian: bool) -> tuple[FeatureMap, Array, Array, float]:
    if training.options:
        raise BadInput(f"option {next(iter(training.options))!r}: is not one of ridge's")
    features = fit_map(training.blocks, gaussian, training.weights, training.seed)
    mapped = [features.apply(block) for block in training.blocks]
    grams = [
        Gram.of(x, y, w) for x, y, w in zip(mapped, training.targets, training.weights, strict=True)
    ]
    penalty = choose_penalty(mapped, training.targets, grams, training.groups)
    weights, intercept = sum_grams(grams).solve([penalty])[0]
    return features, weights, intercept, penalty


@register("ridge")
class RidgeHead:
    """Linear ridge regression of all types at once, its penalty chosen by inner folds."""

    def fit(self, training: Training) -> Fitted:
        """See `Head`."""
        features, weights, intercept, penalty = _solve(training, gaussian=False)
        if len(features.landmarks):
            weights = features.landmarks.T @ (features.root @ weights)
        return FittedLinear(weights, intercept - features.centre @ weights, penalty)

    def load(
        self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays
    ) -> FittedLinear:
        """See `Head`."""
        weights, intercept = arrays["weights"], arrays["intercept"]
        if weights.ndim != 2 or intercept.shape != weights.shape[1:]:
            raise ValueError("weights and intercept do not fit each other")
        return FittedLinear(weights, intercept, float(fields["penalty"]))


@register("kernel")
class KernelHead:
    """Ridge regression with a Gaussian kernel as wide as the median distance between spots."""

    def fit(self, training: Training) -> Fitted:
        """See `Head`."""
        return FittedKernel(*_solve(training, gaussian=True))

    def load(
        self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays
    ) -> FittedKernel:
        """See `Head`."""
        landmarks, root, weights = arrays["landmarks"], arrays["root"], arrays["weights"]
        centre, intercept = arrays["centre"], arrays["intercept"]
        shapes = (landmarks.shape[:1], centre.shape, root.shape[1:], intercept.shape)
        if shapes != (root.shape[:1], landmarks.shape[1:], weights.shape[:1], weights.shape[1:]):
            raise ValueError("landmarks and weights do not fit each other")
        features = FeatureMap(centre, float(fields["width"]), landmarks, root)
        return FittedKernel(features, weights, intercept, float(fields["penalty"]))
