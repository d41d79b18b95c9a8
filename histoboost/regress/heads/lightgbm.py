"""The `lightgbm` head (and `coords`, the same on coordinates only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from histoboost.errors import BadInput
from histoboost.regress.boosting import MultiTargetLGBM
from histoboost.regress.heads.base import Array, Arrays, Matrix, Training, register
from histoboost.regress.training import Task

#: Share of the binning in the training, at 7,700 spots, 3,840 features and 35 types.
COMMON_SHARE = 0.05


@dataclass(frozen=True)
class FittedLightGBM:
    """One LightGBM model per cell type."""

    model: MultiTargetLGBM

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        return self.model.predict_rows(np.ascontiguousarray(values))

    def importance(self) -> Array | None:
        """Share of the total gain."""
        return self.model.feature_importances_

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """One text per cell type."""
        texts = {f"lightgbm_{i:03d}": text for i, text in enumerate(self.model.texts_)}
        return {"models": len(texts)}, texts, {}

    @property
    def texts(self) -> list[str]:
        """See `TypeModels`."""
        return list(self.model.texts_)

    def completed(self, texts: Sequence[str]) -> FittedLightGBM:
        """See `TypeModels`."""
        return FittedLightGBM(MultiTargetLGBM.from_texts(texts, "model"))


@dataclass(frozen=True)
class BegunLightGBM:
    """Binned features."""

    model: MultiTargetLGBM
    task: Task

    def grow(self, types: Sequence[int]) -> FittedLightGBM:
        """See `Begun`."""
        return FittedLightGBM(clone(self.model).fit_task(self.task, types))


@register("lightgbm")
@register("coords")
class LightGBMHead:
    """Boosted trees; with the option ``early_stopping`` the last inner group says when to stop."""

    def fit(self, training: Training) -> FittedLightGBM:
        """See `Head`."""
        return self.begin(training).grow(range(training.targets[0].shape[1]))

    def common_share(self, options: Mapping[str, Any]) -> float:
        """See `DivisibleHead`; early stopping takes the median of the rounds of all types."""
        return 1.0 if "early_stopping" in options else COMMON_SHARE

    def begin(self, training: Training) -> BegunLightGBM:
        """See `DivisibleHead`."""
        options = dict(training.options)
        patience = options.pop("early_stopping", None)
        model = MultiTargetLGBM(n_jobs=training.jobs, random_state=training.seed, **options)
        if patience is not None:
            rounds = _rounds(training, model.set_params(early_stopping_rounds=patience))
            model.set_params(early_stopping_rounds=None, n_estimators=rounds)
        task = model.bin_blocks(
            training.blocks, np.concatenate(training.targets), np.concatenate(training.weights)
        )
        return BegunLightGBM(model, task)

    def load(
        self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays
    ) -> FittedLightGBM:
        """See `Head`."""
        ordered = [texts[f"lightgbm_{i:03d}"] for i in range(int(fields["models"]))]
        return FittedLightGBM(MultiTargetLGBM.from_texts(ordered, "model"))


def _rounds(training: Training, model: MultiTargetLGBM) -> int:
    """Rounds to train for, the median over types of where an inner slide says to stop.

    The slide then joins the training data again, so that none is lost to the choice.
    """
    folds = training.inner_folds()
    if len(folds) < 2:
        raise BadInput(
            "early stopping: needs two or more training slides (or groups), one to decide when to "
            "stop; leave it out"
        )
    rest, held = folds[-1]
    model.fit_blocks(
        rest.blocks,
        np.concatenate(rest.targets),
        np.concatenate(rest.weights),
        inner=(
            [training.blocks[i] for i in held],
            np.concatenate([training.targets[i] for i in held]),
        ),
    )
    return max(1, int(np.median(model.rounds_)))
