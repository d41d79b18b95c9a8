"""The `lightgbm` head (and `coords`, the same on coordinates only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from histoboost.errors import HistoboostError
from histoboost.regress.boosting import MultiTargetLGBM
from histoboost.regress.heads import Array, Arrays, Fitted, Matrix, Training, register


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


@register("lightgbm")
@register("coords")
class LightGBMHead:
    """Boosted trees; with the option ``early_stopping`` the last inner group says when to stop."""

    def fit(self, training: Training) -> Fitted:
        """See `Head`."""
        options = dict(training.options)
        patience = options.pop("early_stopping", None)
        model = MultiTargetLGBM(n_jobs=training.jobs, random_state=training.seed, **options)
        if patience is not None:
            rounds = _rounds(training, model.set_params(early_stopping_rounds=patience))
            model.set_params(early_stopping_rounds=None, n_estimators=rounds)
        model.fit_blocks(
            training.blocks, np.concatenate(training.targets), np.concatenate(training.weights)
        )
        return FittedLightGBM(model)

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
        raise HistoboostError(
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
