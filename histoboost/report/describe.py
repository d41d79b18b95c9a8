"""What a trained model is: what it predicts, what it was trained on, how it is used."""

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
        The model.

    Returns
    -------
    dict
        ``{"model", "target", "features", "settings", "cell_types", "training_slides", "recipes",
        "units", "intervals", "um_per_px", "pitch_px", "pitch_um", "novelty", "mounting",
        "scores", "importances", "use"}``: `recipes` maps the embeddings that a slide must have to
        how they are made; resolution and pitch are medians over the training slides, None where
        unknown; `novelty` says whether it judges how far spots are from those of training,
        `mounting` whether it tells how they lay; `scores` are per-spot and per-type Spearman on
        held-out slides, or None where the model does not hold them (``train --intervals`` keeps
        them); `use` are the commands that predict another slide.

    Raises
    ------
    HistoboostError
        If it is not a model, or is damaged.
    """
    return _end_to_end(Path(folder)) if is_ensemble(folder) else _regressor(Path(folder))


def _regressor(folder: Path) -> dict[str, Any]:
    model = CompositionRegressor.load(folder)
    setup = model.setup_.to_json()
    options = setup.pop("options")
    if "trees" in setup:
        setup["trees"] = model.setup_.without_trees(model.cell_types_) or "all"
    known = model.residuals_
    scores = None
    if known is not None:
        target = model.predictor_.target
        merged = [to_units(part, "none", target) for part in known.predicted]
        pairs = list(zip(merged, known.true, strict=True))
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
        "intervals": known is not None,
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

    named = _networks(folder)
    model = Ensemble.load(folder, named)
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


def _networks(folder: Path) -> list[str]:
    """Networks that the folder names; none of them is imported or fetched to describe it."""
    try:
        settings = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["settings"]
        return [str(name) for name in settings["backbones"]]
    except (ValueError, KeyError, TypeError):
        return []  # `Ensemble.load` says what is wrong
