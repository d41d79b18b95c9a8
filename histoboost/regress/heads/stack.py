"""The `stack` model: LightGBM on held-out predictions of kernel ridge.

Kernel ridge learns the smooth part of the relation between thousands of features and all cell types
at once, which trees on single features cannot. One LightGBM per cell type then corrects, from a few
columns, its errors on held-out slides (stacked generalisation, Wolpert 1992).

With the joint target, one forest learns order and map together: it predicts the sum of both, each
divided by its standard deviation, and its correction of the sum is split between the two. A second
forest learns the shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.regress.heads.base import Array, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block, Matrix, draw
from histoboost.regress.heads.feature_map import FeatureMap
from histoboost.regress.heads.kernel_ridge import KernelRidge
from histoboost.regress.heads.lightgbm import texts_of, trees_from
from histoboost.regress.heads.ridge import FittedKernel, KernelHead, fitted_kernel
from histoboost.regress.joint import joint_parts
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

Floats = TypeVar("Floats", Array, Matrix)
Columns = NDArray[np.int64]

#: Kernel principal components that the trees use besides the predictions.
COMPONENTS = 40
#: Maximum number of training spots for trees: more change little and cost hours.
TREE_SPOTS = 1 << 15
#: Weight of the trees; the rest is the kernel's.
SHARE = 0.5
#: Weight of the trees for shares: on new patients those trees lose more than they gain.
SHARE_OF_SHARES = 0.25
#: Number of tree models above which a warning is given.
MANY = 1000
#: LightGBM parameters that differ from those for thousands of columns.
DEFAULTS: Mapping[str, Any] = {
    "n_estimators": 200,
    "num_leaves": 4,
    "feature_fraction": 0.2,
    "min_child_samples": 10,
    "bagging_fraction": 0.7,
    "extra_trees": True,
}


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees that correct some of the kernel's targets.

    `targets` are the columns corrected, T of each part; the trees, one model per cell type, predict
    the sum of the parts, each divided by `spread` (parts * T,). `share` is their weight.
    """

    trees: MultiTargetLGBM
    targets: tuple[Columns, ...]
    spread: Array
    share: float

    @classmethod
    def fit(
        cls,
        training: Training,
        components: Sequence[Matrix],
        held_out: Sequence[Matrix],
        targets: tuple[Columns, ...],
        share: float,
        options: Mapping[str, Any],
    ) -> Forest:
        """Train on the kernel's components and its held-out predictions."""
        true = _parts(np.concatenate(training.targets), targets)
        weights = np.concatenate(training.weights)
        spread = np.ones(true.shape[1])
        if len(targets) > 1:
            mean = np.average(true, axis=0, weights=weights)
            spread = np.sqrt(np.average((true - mean) ** 2, axis=0, weights=weights)) + 1e-9
        trees = MultiTargetLGBM(n_jobs=training.jobs, random_state=training.seed, **options)
        columns = [
            _columns(scores, _parts(predicted, targets))
            for scores, predicted in zip(components, held_out, strict=True)
        ]
        trees.fit_blocks(columns, _sum(true / spread, len(targets)), weights)
        return cls(trees, targets, spread, share)

    def correct(self, components: Array, predicted: Array) -> None:
        """Correct the kernel's predictions (n, T) in place."""
        parts, count = _parts(predicted, self.targets), len(self.targets)
        sums = self.trees.predict_rows(_columns(components, parts))
        added = self.share * (sums - _sum(parts / self.spread, count)) / count
        for at, target in enumerate(self.targets):
            width = added.shape[1]
            predicted[:, target] += self.spread[at * width : (at + 1) * width] * added


@dataclass(frozen=True, eq=False)
class FittedStack(Fitted):
    """A kernel model and the forests that correct it.

    There are no forests with a single training group, or without trees. `axes` (k, COMPONENTS) are
    the principal axes of the kernel's columns; `types` the cell types that are corrected (None:
    all).
    """

    kernel: FittedKernel
    axes: Array
    forests: tuple[Forest, ...]
    types: Sequence[int] | None = None

    @property
    def similarities(self) -> FeatureMap | None:
        return self.kernel.similarities

    def predict(self, values: Block) -> Array:
        parts = list(self.kernel.features.map_pieces(values, self._scores_and_predictions))
        scores, predicted = (np.concatenate(each) for each in zip(*parts, strict=True))
        for forest in self.forests:
            forest.correct(scores, predicted)
        return predicted

    def _scores_and_predictions(self, rows: slice, mapped: Matrix) -> tuple[Array, Array]:
        return mapped @ self.axes, self.kernel.predict_mapped(rows, mapped)

    def importance(self) -> Array | None:
        """Importance in the kernel: the trees use no single feature."""
        return self.kernel.importance()

    def to_files(self) -> Files:
        fields, _, arrays = self.kernel.to_files()
        texts = texts_of([text for forest in self.forests for text in forest.trees.texts_])
        fields["models"], arrays["axes"] = len(texts), self.axes
        if len(self.forests) > 1:
            fields["forests"], arrays["spread"] = len(self.forests), self.forests[0].spread
            fields["tree_shares"] = [forest.share for forest in self.forests]
        if self.types is not None and self.forests:
            fields["tree_types"] = list(self.types)
        return Files(fields, texts, arrays)


class StackHead:
    """Kernel ridge, and LightGBM on its predictions for held-out groups."""

    def fit(self, training: Training) -> FittedStack:
        rows = draw(training.weights, TREE_SPOTS, training.seed)
        ridge = KernelRidge.fit(training, gaussian=True, rows=rows)
        kernel, axes = fitted_kernel(ridge), ridge.principal_axes(COMPONENTS)
        if len(set(training.groups)) < 2:
            warn(
                "stack: one training slide (or group) leaves none to hold out; kernel ridge is "
                "used alone"
            )
            return FittedStack(kernel, axes, ())
        targets = _targets(len(kernel.intercept), len(training.parts), training.trees)
        models = sum(len(each[0]) for each in targets)
        if not models:
            return FittedStack(kernel, axes, ())
        if models > MANY:
            warn(f"stack: {models:,} models of trees, which takes long; limit them with --trees")
        options = {**DEFAULTS, **training.options}
        if len(training.parts) > 1:
            # For the joint target, half as many trees at twice the learning rate score the same.
            given = MultiTargetLGBM(**options)
            options["n_estimators"] = max(1, given.n_estimators // 2)
            options["learning_rate"] = 2 * given.learning_rate
        components, held_out = ridge.unseen(axes, rows)
        training = replace(
            training,
            blocks=[],
            targets=[known[own] for known, own in zip(training.targets, rows, strict=True)],
            weights=[known[own] for known, own in zip(training.weights, rows, strict=True)],
        )
        forests = tuple(
            Forest.fit(training, components, held_out, each, share, options)
            for each, share in zip(targets, (SHARE, SHARE_OF_SHARES), strict=False)
        )
        return FittedStack(kernel, axes, forests, training.trees)

    def load(self, files: Files) -> FittedStack:
        kernel, axes = KernelHead().load(files), files.arrays["axes"]
        if axes.ndim != 2 or len(axes) != len(kernel.weights):
            raise ValueError("axes and weights do not fit each other")
        models = int(files.fields["models"])
        if not models:
            return FittedStack(kernel, axes, ())
        count = int(files.fields.get("forests", 1))  # 0.1.0 had one
        if models % count:
            raise ValueError("trees and forests do not fit each other")
        types = files.fields.get("tree_types")  # absent: all
        targets = _targets(len(kernel.intercept), 4 if count > 1 else 1, types)
        shares = files.fields.get("tree_shares", [SHARE] * count)  # equal before 0.2.0
        if len(shares) != count:
            raise ValueError("trees and their shares do not fit each other")
        forests = []
        for at, trees in enumerate(trees_from(files, count)):
            parts, width = targets[at], len(targets[at]) * models // count
            spread = files.arrays["spread"] if len(parts) > 1 else np.ones(width)
            fits = spread.shape == (width,) and trees.n_features_in_ == axes.shape[1] + width
            if not fits or any(len(part) != models // count for part in parts):
                raise ValueError("trees and kernel do not fit each other")
            forests.append(Forest(trees, parts, spread, float(shares[at])))
        return FittedStack(kernel, axes, tuple(forests), types)


def _targets(
    width: int, parts: int, types: Sequence[int] | None = None
) -> list[tuple[Columns, ...]]:
    """Columns that each forest corrects: order and map, then share; or the only part.

    `types` are the cell types with trees, all by default.
    """
    own = joint_parts(width)[:3] if parts > 1 else [slice(0, width)]
    columns = [np.arange(part.start, part.stop) for part in own]
    if types is not None:
        chosen = np.asarray(types, dtype=np.int64)
        if ((chosen < 0) | (chosen >= len(columns[0]))).any() or (np.diff(chosen) <= 0).any():
            raise ValueError("trees of other cell types than there are")
        columns = [part[chosen] for part in columns]
    return [tuple(columns[:2]), tuple(columns[2:])] if parts > 1 else [tuple(columns)]


def _parts(values: Floats, targets: Sequence[Columns]) -> Floats:
    return np.concatenate([values[:, target] for target in targets], axis=1)


def _sum(values: Array, count: int) -> Array:
    """Sum (n, T) of `count` adjacent parts."""
    return np.asarray(values.reshape(len(values), count, -1).sum(axis=1))


def _columns(components: Floats, predicted: Floats) -> Matrix:
    """Features of the trees, (n, COMPONENTS + predicted columns)."""
    return np.concatenate([components, predicted], axis=1, dtype=np.float32)
