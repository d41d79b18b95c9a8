"""No setting is parsed and then ignored: each changes the predictions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from histoboost.featurize.backbones.factory import load_backbone
from histoboost.finetune.plan import plan_models
from histoboost.finetune.presets import Settings
from histoboost.finetune.run import train_models
from histoboost.slides.slide import Dataset

TINY_NET = "tiny-net-of-the-tests"

pytestmark = [
    pytest.mark.usefixtures("tiny_net"),
    pytest.mark.filterwarnings("ignore:.*hardly vary"),
]

#: Every field switched on, and another value for it.
FIELDS: dict[str, tuple[Any, Any]] = {
    "backbones": ((TINY_NET,), (TINY_NET, TINY_NET)),
    "weights": (("random",), None),  # a file, made by the test
    "patch": ((24,), (24, 48)),
    "input_px": (32, 40),
    "batch_norm": ("train", "frozen"),
    "coords": (4, 0),
    "hidden": ((8,), ()),
    "dropout": (0.2, 0.0),
    "target": ("rank", "zscore"),
    "loss": ("mae", "mse"),
    "temperature": (0.1, 2.0),
    "learning_rate": (1e-3, 1e-2),
    "weight_decay": (0.0, 0.5),
    "clip": (0.01, 0.0),
    "batch_size": (8, 4),
    "epochs": (2, 1),
    "epoch_spots": (8, 0),
    "plateau_patience": (1, 0),
    "plateau_factor": (0.5, 0.01),
    "patience": (3, 1),
    "monitor": ("loss", "score"),
    "flip": (True, False),
    "rotation": (90.0, 0.0),
    "zoom": (0.2, 0.0),
    "brightness": (0.2, 0.0),
    "contrast": (0.2, 0.0),
    "translation": (0.1, 0.0),
    "augment_group": (2, 1),
    "seed": (0, 1),
}
BASE = Settings(**{field: first for field, (first, _) in FIELDS.items()})
#: Other settings without which a field has no effect.
NEEDS: dict[str, dict[str, Any]] = {
    "temperature": {"loss": "soft-spearman"},
    # A rate so high that the stopping slide does not improve every time.
    **dict.fromkeys(
        ("plateau_patience", "plateau_factor", "patience", "monitor"),
        {"learning_rate": 0.3, "epochs": 6, "patience": 5},
    ),
}


Outcome = tuple[NDArray[np.float64], list[Any]]


@pytest.fixture(scope="module")
def outcome(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Settings, str], Outcome]:
    """Trains a model, once for each argument; returns predictions and steps of the training."""

    @functools.cache
    def outcome(settings: Settings, stop_on: str, run: int = 0) -> Outcome:
        folder = tmp_path_factory.mktemp("model")
        plans = plan_models(dataset, folder, settings, held_out=["S_1"], stop_on=[stop_on])
        [trained] = train_models(plans, device=torch.device("cpu"), log=lambda line: None)
        rows = [row for rows in trained.ensemble.histories().values() for row in rows]
        steps = [(row["learning_rate"], row["improved"]) for row in rows]
        return trained.predictions["S_1"], steps

    return outcome


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Settings)])
def test_each_setting_changes_the_predictions(
    outcome: Callable[..., Outcome], tmp_path: Path, field: str
) -> None:
    base = dataclasses.replace(BASE, **NEEDS.get(field, {}))
    _, value = FIELDS[field]
    if field == "weights":
        state = load_backbone(TINY_NET, "random", seed=5).module.state_dict()
        torch.save(state, tmp_path / "other.pth")
        value = (str(tmp_path / "other.pth"),)
    assert getattr(base, field) != value
    changed = dataclasses.replace(base, **{field: value})
    # Without a stopping slide the last epoch is kept, on which most settings act.
    stop_on = "auto" if "patience" in NEEDS.get(field, {}) else "none"
    first, steps = outcome(base, stop_on)
    other, other_steps = outcome(changed, stop_on)
    assert not np.array_equal(first, other) or steps != other_steps


@pytest.mark.parametrize("stop_on", ["auto", "none"])
def test_the_same_settings_give_the_same_predictions(
    outcome: Callable[..., Outcome], stop_on: str
) -> None:
    first, steps = outcome(BASE, stop_on)
    other, other_steps = outcome(BASE, stop_on, 2)
    np.testing.assert_array_equal(first, other)
    assert steps == other_steps
