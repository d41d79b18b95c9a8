"""The `stack` model: LightGBM on what kernel ridge says of slides it has not seen.

Kernel ridge finds the smooth part of the relation between thousands of features and all cell types
at once, which trees on single features cannot; one LightGBM per cell type then learns, from few
columns, where it errs on slides it was not trained on (stacked generalisation, Wolpert 1992).

Of the joint target, one forest learns order and map together: it predicts their sum, each in units
of its standard deviation, and what it adds to the kernel's sum is shared out between the two. A
second forest learns the shares.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import HistoboostWarning, warn
from histoboost.regress.heads.base import Array, Files, Training
from histoboost.regress.heads.blocks import Block, Matrix, draw
from histoboost.regress.heads.feature_map import FeatureMap
from histoboost.regress.heads.kernel_ridge import KernelRidge
from histoboost.regress.heads.lightgbm import texts_of, trees_from
from histoboost.regress.heads.ridge import FittedKernel, KernelHead, fitted_kernel
from histoboost.regress.joint import joint_parts
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

Floats = TypeVar("Floats", Array, Matrix)
Columns = NDArray[np.int64]

#: Kernel principal components that the trees see beside the predictions.
COMPONENTS = 40
#: Training spots that trees grow on, at most: many more change little and cost hours.
TREE_SPOTS = 1 << 15
#: Share of the trees in the sum; the rest is the kernel's.
SHARE = 0.5
#: The same where they correct the shares: for a new patient those trees lose more than they gain.
SHARE_OF_SHARES = 0.25
#: Models of trees from which on it is said that they take long.
MANY = 1000
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
class Forest:
    """Trees that correct some of the kernel's targets.

    Attributes
    ----------
    trees : MultiTargetLGBM
        One model for each cell type.
    targets : tuple of ndarray of int
        Columns of the kernel's targets that are corrected, T of every part.
    spread : ndarray of shape (parts * T,)
        Units of these targets; what the trees predict is the sum of the parts in them.
    share : float
        Of the trees in the sum.
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
        """Learn from the kernel's components and its predictions for slides it had not seen."""
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
        """Correct the kernel's predictions (n, T), in place."""
        parts, count = _parts(predicted, self.targets), len(self.targets)
        wanted = self.trees.predict_rows(_columns(components, parts))
        added = self.share * (wanted - _sum(parts / self.spread, count)) / count
        for at, target in enumerate(self.targets):
            width = added.shape[1]
            predicted[:, target] += self.spread[at * width : (at + 1) * width] * added


@dataclass(frozen=True, eq=False)
class FittedStack:
    """A kernel model and trees that correct it.

    Attributes
    ----------
    kernel : FittedKernel
    axes : ndarray of shape (k, COMPONENTS)
        Principal axes of the kernel's columns.
    forests : tuple of Forest
        None where there was one training group and thus nothing to correct by, or no trees were
        wanted.
    types : sequence of int, optional
        Cell types that they correct; all by default.
    """

    kernel: FittedKernel
    axes: Array
    forests: tuple[Forest, ...]
    types: Sequence[int] | None = None

    @property
    def similarities(self) -> FeatureMap | None:
        """The kernel's."""
        return self.kernel.similarities

    def predict(self, values: Block) -> Array:
        """See `Fitted`."""
        parts = list(self.kernel.features.over(values, self._places_and_predictions))
        places, predicted = (np.concatenate(each) for each in zip(*parts, strict=True))
        for forest in self.forests:
            forest.correct(places, predicted)
        return predicted

    def _places_and_predictions(self, rows: slice, mapped: Matrix) -> tuple[Array, Array]:
        return mapped @ self.axes, self.kernel.predict_mapped(rows, mapped)

    def importance(self) -> Array | None:
        """The kernel's: the trees see no single feature."""
        return self.kernel.importance()

    def to_files(self) -> Files:
        """Those of the kernel, the axes, and the texts of all trees, forest by forest."""
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
        """See `Head`."""
        rows = draw(training.weights, TREE_SPOTS, training.seed)
        ridge = KernelRidge.fit(training, gaussian=True, rows=rows)
        kernel, axes = fitted_kernel(ridge), ridge.principal_axes(COMPONENTS)
        if len(set(training.groups)) < 2:
            warnings.warn(
                "stack: one training slide (or group) leaves none to hold out; kernel ridge is "
                "used alone",
                HistoboostWarning,
                stacklevel=2,
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
            # Half as many trees that count twice score the same for the joint target.
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
        """See `Head`."""
        kernel, axes = KernelHead().load(files), files.arrays["axes"]
        if axes.ndim != 2 or len(axes) != len(kernel.weights):
            raise ValueError("axes and weights do not fit each other")
        models = int(files.fields["models"])
        if not models:
            return FittedStack(kernel, axes, ())
        count = int(files.fields.get("forests", 1))  # 0.1.0 had one
        if models % count:
            raise ValueError("trees and forests do not fit each other")
        some = files.fields.get("tree_types")  # where not all
        targets = _targets(len(kernel.intercept), 4 if count > 1 else 1, some)
        shares = files.fields.get("tree_shares", [SHARE] * count)  # once they were all alike
        if len(shares) != count:
            raise ValueError("trees and their shares do not fit each other")
        forests = []
        for at, trees in enumerate(trees_from(files, count)):
            width = len(targets[at]) * models // count
            spread = np.ones(width)
            if len(targets[at]) > 1:
                spread = files.arrays["spread"]
            parts = targets[at]
            if spread.shape != (width,) or trees.n_features_in_ != axes.shape[1] + width:
                raise ValueError("trees and kernel do not fit each other")
            if any(len(part) != models // count for part in parts):
                raise ValueError("trees and kernel do not fit each other")
            forests.append(Forest(trees, parts, spread, float(shares[at])))
        return FittedStack(kernel, axes, tuple(forests), some)


def _targets(
    width: int, parts: int, types: Sequence[int] | None = None
) -> list[tuple[Columns, ...]]:
    """Which targets each forest corrects: order and map, then the share, or the only one.

    Of some cell types where they are given.
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
    """Sum (n, T) of `count` parts that lie side by side."""
    return np.asarray(values.reshape(len(values), count, -1).sum(axis=1))


def _columns(components: Floats, predicted: Floats) -> Matrix:
    """What the trees see, (n, COMPONENTS + predicted columns)."""
    return np.concatenate([components, predicted], axis=1, dtype=np.float32)
