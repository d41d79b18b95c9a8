"""Scores of trained folds, beside the constant baselines, as `evaluate` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.endtoend.ensemble import labels
from histoboost.endtoend.run import Trained, labelled_slides
from histoboost.featurize.slide import Dataset, Slide
from histoboost.regress.metrics import spot_spearman, type_spearman
from histoboost.regress.targets import fit_target


def score_folds(
    dataset: Dataset, trained: Sequence[Trained], *, model: str, slides: Sequence[str] | None
) -> dict[str, Any]:
    """Score every fold on what it held out.

    Parameters
    ----------
    dataset : Dataset
        What the folds were trained on.
    trained : sequence of Trained
        Each with at least one held-out slide.
    model : str
        What the result calls the model.
    slides : sequence of str, optional
        Labelled slides that were used; all by default.

    Returns
    -------
    dict
        ``features``, ``model``, ``target``, ``folds``, ``mean``, ``baselines``, ``seconds``: the
        same as `evaluate --json` writes.
    """
    used = labelled_slides(dataset, slides)
    folds = [_fold(used, one) for one in trained]
    constants = [_constants(used, one.fold.held_out) for one in trained]

    def mean(rows: Sequence[dict[str, Any]], key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    return {
        "features": "end-to-end",
        "model": model,
        "target": trained[0].ensemble.settings.target,
        "folds": folds,
        "mean": {key: mean(folds, key) for key in ("spot_spearman", "type_spearman")},
        "baselines": {name: {"spot_spearman": mean(constants, name)} for name in constants[0]},
        "seconds": {
            "load": 0.0,
            "fit": sum(fold["fit_seconds"] for fold in folds),
            "predict": sum(one.predict_seconds for one in trained),
        },
    }


def _fold(used: Sequence[Slide], one: Trained) -> dict[str, Any]:
    held_out = [slide for slide in used if slide.name in one.predictions]
    predicted = [one.predictions[slide.name] for slide in held_out]
    true = [labels(slide) for slide in held_out]
    return {
        "held_out": [slide.name for slide in held_out],
        "n_spots": sum(len(part) for part in true),
        "spot_spearman": spot_spearman(np.concatenate(predicted), np.concatenate(true)),
        "type_spearman": float(
            np.mean([type_spearman(p, t) for p, t in zip(predicted, true, strict=True)])
        ),
        "fit_seconds": one.ensemble.fit_seconds(),
    }


def _constants(used: Sequence[Slide], held_out: Sequence[str]) -> dict[str, float]:
    learned = np.concatenate([labels(s) for s in used if s.name not in held_out])
    true = np.concatenate([labels(s) for s in used if s.name in held_out])
    profiles: dict[str, NDArray[np.float64]] = {
        "mean": learned.mean(axis=0),
        "mean-rank": fit_target("rank", learned).forward(learned).mean(axis=0),
    }
    return {
        name: spot_spearman(np.broadcast_to(profile, true.shape), true)
        for name, profile in profiles.items()
    }
