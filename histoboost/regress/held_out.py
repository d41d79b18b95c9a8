"""Held-out predictions of a cross-validation as a table, and their abundance correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from histoboost.errors import BadInput, warn
from histoboost.names import check_cell_type_names
from histoboost.regress.baselines import CONSTANTS
from histoboost.regress.heads.constant import target_of
from histoboost.regress.layout import abundance_of
from histoboost.regress.metrics import pearson
from histoboost.regress.predictions import Prediction, Predictions
from histoboost.regress.scores import CrossValidation
from histoboost.regress.targets import fit_target
from histoboost.regress.units import to_units


def held_out_frame(scores: CrossValidation, units: str = "rank") -> pd.DataFrame:
    """Tabulate the held-out predictions of all folds, for the first seed.

    Parameters
    ----------
    scores : CrossValidation
        Result of `cross_validate`.
    units : str
        Units of the predictions, as for `CompositionRegressor.predict`.

    Returns
    -------
    DataFrame
        One row per spot: fold (group or slides held out), slide, spot, x, y (pixels), and a column
        for each cell type.

    Raises
    ------
    HistoboostError
        If folds were loaded from an earlier run, which stores scores but no predictions; if a cell
        type has the name of another column.
    """
    tables = {table.slide: table for table in scores.spots}
    check_columns(scores.spots[0].cell_types, "held-out predictions")
    name = target_of(scores.setup.model, scores.setup.target)
    frames = []
    for fold in scores.folds:
        if fold.seed != scores.seeds[0]:
            continue
        if not fold.predictions:
            raise BadInput(
                f"fold {fold.name}: was loaded from an earlier run, without predictions; evaluate "
                "it again"
            )
        training = [abundance_of(tables[s]) for s in tables if s not in fold.held_out]
        target = fit_target(name, np.concatenate(training))
        frame = Predictions(
            Prediction(tables[slide], tables[slide].cell_types, to_units(raw, units, target), units)
            for slide, raw in fold.predictions.items()
        ).to_frame()
        frame.insert(0, "fold", fold.group or fold.name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def abundance_pearson(scores: CrossValidation) -> dict[str, Any]:
    """Pearson correlation of predicted and true abundances over the held-out spots of each fold.

    This is the score of HEST-Bench (Jaume et al., HEST-1k, NeurIPS 2024; ``train_test_reg`` in
    ``src/hest/bench/trainer.py`` of mahmoodlab/HEST), for the target ``raw``; 0 if a prediction or
    the truth is constant. Returns ``mean``, and its means by fold (``folds``) and cell type
    (``types``).
    """
    held = scores.residuals()
    found = [pearson(np.concatenate(fold.predicted), np.concatenate(fold.true)) for fold in held]
    by_type = dict(zip(scores.spots[0].cell_types, np.mean(found, axis=0).tolist(), strict=True))
    folds = [float(values.mean()) for values in found]
    return {"mean": float(np.mean(folds)), "folds": folds, "types": by_type}


def check_columns(cell_types: Sequence[str], where: object) -> None:
    """Refuse cell types of `where` that clash with columns of the table."""
    check_cell_type_names(cell_types, where)
    if "fold" in cell_types:
        raise BadInput(f"{where}: cell type 'fold' clashes with the column of that name; rename it")


def warn_where_nothing_was_learned(scores: CrossValidation) -> None:
    """Warn about folds with a lower per-spot score than a constant profile."""
    if scores.setup.model in CONSTANTS:
        return
    folds = scores.folds[: len(scores.folds) // len(scores.seeds)]
    for fold, own in zip(folds, scores.by_fold("spot_spearman"), strict=True):
        best = max(fold.baselines[name]["spot_spearman"] for name in CONSTANTS)
        if round(own, 3) < round(best, 3):
            warn(
                f"{fold.name}: {scores.setup.model} scores {own:.3f} per spot, a constant profile "
                f"{best:.3f}; what the model learned does not generalise to {fold.name}"
            )
