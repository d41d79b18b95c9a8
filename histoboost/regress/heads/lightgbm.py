"""The `lightgbm` model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from histoboost.errors import BadInput
from histoboost.regress.heads.base import Array, Files, Fitted, Training, group_members
from histoboost.regress.heads.blocks import Block, rows_of
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM


@dataclass(frozen=True)
class FittedLightGBM(Fitted):
    """One LightGBM model per cell type."""

    trees: MultiTargetLGBM

    def predict(self, values: Block) -> Array:
        return self.trees.predict_rows(np.ascontiguousarray(rows_of(values)))

    def importance(self) -> Array | None:
        """Share of the total gain."""
        return self.trees.feature_importances_

    def to_files(self) -> Files:
        texts = texts_of(self.trees.texts_)
        return Files({"models": len(texts)}, texts, {})


def texts_of(texts: Sequence[str]) -> dict[str, str]:
    """Name the texts of models for the bundle."""
    return {f"lightgbm_{i:03d}": text for i, text in enumerate(texts)}


def trees_from(files: Files, forests: int = 1) -> list[MultiTargetLGBM]:
    """Inverse of `texts_of`: the models of a bundle, split evenly into `forests`."""
    texts = [files.texts[f"lightgbm_{i:03d}"] for i in range(int(files.fields["models"]))]
    each = len(texts) // forests
    return [MultiTargetLGBM.from_texts(texts[at * each :][:each]) for at in range(forests)]


class LightGBMHead:
    """Boosted trees; with the option ``early_stopping``, stopped on the last inner group."""

    def fit(self, training: Training) -> FittedLightGBM:
        options = dict(training.options)
        patience = options.pop("early_stopping", None)
        trees = MultiTargetLGBM(n_jobs=training.jobs, random_state=training.seed, **options)
        if patience is not None:
            trees.set_params(n_estimators=_rounds(training, trees, patience))
        weights = np.concatenate(training.weights)
        blocks = [rows_of(block) for block in training.blocks]
        trees.fit_blocks(blocks, np.concatenate(training.targets), weights)
        return FittedLightGBM(trees)

    def load(self, files: Files) -> FittedLightGBM:
        return FittedLightGBM(*trees_from(files))


def _rounds(training: Training, trees: MultiTargetLGBM, patience: int) -> int:
    """Boosting rounds: median over types of the best round on the last inner group.

    That group is trained on afterwards, so no data are lost.
    """
    folds = group_members(training.groups)
    if len(folds) < 2:
        raise BadInput(
            "early stopping: needs two or more training slides (or groups), one to decide when to "
            "stop; omit it"
        )
    held = training.subset(folds[-1])
    rest = training.subset([i for i in range(len(training.blocks)) if i not in folds[-1]])
    trees.fit_blocks(
        [rows_of(block) for block in rest.blocks],
        np.concatenate(rest.targets),
        np.concatenate(rest.weights),
        stop_on=([rows_of(b) for b in held.blocks], np.concatenate(held.targets)),
        patience=patience,
    )
    return max(1, int(np.median(trees.rounds_)))
