"""The presets, and invalid settings."""

from __future__ import annotations

import pytest

from histoboost.errors import HistoboostError
from histoboost.finetune.presets import PRESETS, Settings, preset

MORE = ("coords", "hidden", "clip", "plateau_patience")
AUGMENTATIONS = ("flip", "rotation", "zoom", "brightness", "contrast", "translation")


def test_the_baseline_is_a_resnet18_on_one_field_of_view_with_squared_error() -> None:
    recipe = preset("cnn-baseline")
    assert (recipe.backbones, recipe.loss, recipe.target) == (("resnet18",), "mse", "raw")
    assert len(recipe.patch) == 1
    assert not any(getattr(recipe, name) for name in (*MORE, *AUGMENTATIONS))


def test_the_ensemble_is_four_networks_on_two_fields_of_view_with_coordinates() -> None:
    recipe = preset("cnn-ensemble")
    assert recipe.backbones == (*(f"efficientnet_b{k}" for k in range(3)), "resnet50")
    assert (recipe.loss, recipe.target) == ("mae", "zscore")
    assert len(recipe.patch) == 2
    assert all(getattr(recipe, name) for name in (*MORE, *AUGMENTATIONS))


@pytest.mark.parametrize("name", list(PRESETS))
def test_settings_survive_json(name: str) -> None:
    recipe = preset(name, input_px=64)
    assert Settings.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbones": ("resnet19",)}, "resnet19"),
        ({"backbones": ()}, "at least 1"),
        ({"weights": ("random", "random")}, "one, or one per backbone"),
        ({"loss": "huber"}, "choose one of mse, mae, soft-spearman"),
        ({"target": "sqrt"}, "choose one of raw"),
        ({"loss": "soft-spearman"}, "add --target rank"),
        ({"patch": (64, 0)}, "patch 64,0"),
        ({"rotation": -5.0}, "must be 0 or more"),
        ({"zoom": 1.0}, "must be below 1"),
        ({"learning_rate": 0.0}, "must be above 0"),
        ({"input_px": 16}, "at least 32"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(HistoboostError, match=message):
        preset("cnn-baseline", **changes)
