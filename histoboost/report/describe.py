"""Describe a trained model: what it predicts, what it was trained on and how to use it."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from histoboost.finetune.folder import IDENTITY, is_ensemble
from histoboost.regress.compatibility import featurize_commands
from histoboost.regress.metrics import spot_spearman, type_spearman
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.units import UNITS, to_units

STORE, DATA, OUTPUT = "STORE", "DATA", "predicted.csv"


def describe_model(folder: str | Path) -> dict[str, Any]:
    """Describe a model of `train` or `finetune`.

    Parameters
    ----------
    folder : str or Path
        Folder of the model.

    Returns
    -------
    dict
        ``{"model", "target", "features", "settings", "cell_types", "training_slides", "recipes",
        "units", "intervals", "um_per_px", "pitch_px", "pitch_um", "novelty", "mounting",
        "scores", "importances", "use"}``. `recipes` maps each embedding that a slide needs to its
        recipe. Resolution and pitch are medians over the training slides, None if unknown.
        `novelty` and `mounting` tell whether the model estimates novelty and recognises the
        orientation of slides. `scores` are per-spot and per-type Spearman on held-out slides, or
        None unless trained with ``--intervals``. `use` lists the commands to predict another slide.

    Raises
    ------
    HistoboostError
        If the folder is not a model or is damaged.
    """
    return _end_to_end(Path(folder)) if is_ensemble(folder) else _regressor(Path(folder))


def _regressor(folder: Path) -> dict[str, Any]:
    model = CompositionRegressor.load(folder)
    setup = model.setup_.to_json()
    options = setup.pop("options")
    if "trees" in setup:
        setup["trees"] = model.setup_.without_trees(model.cell_types_) or "all"
    residuals = model.residuals_
    scores = None
    if residuals is not None:
        target = model.predictor_.target
        predicted = [to_units(part, "none", target) for part in residuals.predicted]
        pairs = list(zip(predicted, residuals.true, strict=True))
        scores = {
            "spot_spearman": float(np.mean([spot_spearman(*pair) for pair in pairs])),
            "type_spearman": float(np.mean([type_spearman(*pair) for pair in pairs])),
        }
    commands = featurize_commands(STORE, model.recipes_)
    return {
        "model": setup.pop("model"),
        "target": setup.pop("target"),
        "features": setup.pop("features"),
        "settings": {**setup, **options},
        "cell_types": list(model.cell_types_),
        "training_slides": list(model.training_slides_),
        "recipes": model.recipes_,
        "units": list(UNITS),
        "intervals": residuals is not None,
        "um_per_px": model.um_per_px_,
        "pitch_px": model.pitch_px_,
        "pitch_um": model.pitch_um_,
        "novelty": model.guard_.novelty is not None,
        "mounting": model.guard_.knows_mounting(model.setup_),
        "scores": scores,
        "importances": model.importances(),
        "use": [*commands, f"histoboost predict {STORE} {quote(str(folder))} -o {OUTPUT}"],
    }


def _end_to_end(folder: Path) -> dict[str, Any]:
    from histoboost.finetune.ensemble import Ensemble

    model = Ensemble.load(folder, _backbones(folder))
    settings = model.settings.to_json()
    return {
        "model": "end-to-end",
        "target": settings.pop("target"),
        "features": ", ".join(map(str, settings.pop("backbones"))),
        "settings": settings,
        "cell_types": list(model.cell_types),
        "training_slides": list(model.training_slides),
        "recipes": {},
        "units": list(UNITS),
        "intervals": False,
        "um_per_px": None,
        "pitch_px": None,
        "pitch_um": None,
        "novelty": False,
        "mounting": False,
        "scores": None,
        "importances": {},
        "use": [f"histoboost predict {DATA} {quote(str(folder))} -o {OUTPUT}"],
    }


def _backbones(folder: Path) -> list[str]:
    """Backbones that the folder names; describing the model neither imports nor downloads them."""
    try:
        settings = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["settings"]
        return [str(name) for name in settings["backbones"]]
    except (ValueError, KeyError, TypeError):
        return []  # `Ensemble.load` reports the problem
