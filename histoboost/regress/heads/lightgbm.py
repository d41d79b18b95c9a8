"""The `lightgbm` model (and `coords`, the same on coordinates only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from histoboost.errors import BadInput
from histoboost.regress.heads.base import Array, Files, Training
from histoboost.regress.heads.blocks import Block, rows_of
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM


@dataclass(frozen=True)
class FittedLightGBM:
    """One LightGBM model per cell type."""

    trees: MultiTargetLGBM

    @property
    def similarities(self) -> None:
        """None: it compares with no training spots."""
        return None

    def predict(self, values: Block) -> Array:
        """See `Fitted`."""
        return self.trees.predict_rows(np.ascontiguousarray(rows_of(values, slice(None))))

    def importance(self) -> Array | None:
        """Share of the total gain."""
        return self.trees.feature_importances_

    def to_files(self) -> Files:
        """One text per cell type."""
        texts = texts_of(self.trees.texts_)
        return Files({"models": len(texts)}, texts, {})


def texts_of(texts: Sequence[str]) -> dict[str, str]:
    """The models by the names of their files."""
    return {f"lightgbm_{i:03d}": text for i, text in enumerate(texts)}


def trees_from(files: Files, forests: int = 1) -> list[MultiTargetLGBM]:
    """Inverse of `texts_of`, for as many models as the fields count, divided into `forests`."""
    texts = [files.texts[f"lightgbm_{i:03d}"] for i in range(int(files.fields["models"]))]
    each = len(texts) // forests
    return [MultiTargetLGBM.from_texts(texts[at * each :][:each]) for at in range(forests)]


class LightGBMHead:
    """Boosted trees; with the option ``early_stopping`` the last inner group says when to stop."""

    def fit(self, training: Training) -> FittedLightGBM:
        """See `Head`."""
        options = dict(training.options)
        patience = options.pop("early_stopping", None)
        trees = MultiTargetLGBM(n_jobs=training.jobs, random_state=training.seed, **options)
        if patience is not None:
            trees.set_params(n_estimators=_rounds(training, trees, patience))
        weights = np.concatenate(training.weights)
        blocks = [rows_of(block, slice(None)) for block in training.blocks]
        trees.fit_blocks(blocks, np.concatenate(training.targets), weights)
        return FittedLightGBM(trees)

    def load(self, files: Files) -> FittedLightGBM:
        """See `Head`."""
        return FittedLightGBM(*trees_from(files))


def _rounds(training: Training, trees: MultiTargetLGBM, patience: int) -> int:
    """Rounds to train for, the median over types of where an inner slide says to stop.

    The slide then joins the training data again, so that none is lost to the choice.
    """
    folds = training.inner_folds()
    if len(folds) < 2:
        raise BadInput(
            "early stopping: needs two or more training slides (or groups), one to decide when to "
            "stop; omit it"
        )
    held = training.subset(folds[-1])
    rest = training.subset([i for i in range(len(training.blocks)) if i not in folds[-1]])
    trees.fit_blocks(
        [rows_of(block, slice(None)) for block in rest.blocks],
        np.concatenate(rest.targets),
        np.concatenate(rest.weights),
        stop_on=([rows_of(b, slice(None)) for b in held.blocks], np.concatenate(held.targets)),
        patience=patience,
    )
    return max(1, int(np.median(trees.rounds_)))
