"""Folds are trained apart, resumed, and never see what they hold out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.finetune.checkpoint import load_tensors
from histoboost.finetune.ensemble import load_ensemble
from histoboost.finetune.layout import is_ensemble
from histoboost.finetune.presets import Settings, preset
from histoboost.finetune.run import Fold, Trained, stopping_slides, train_folds
from histoboost.finetune.spot_patches import load_pixels
from histoboost.phantom import phantom_slide
from histoboost.slides.slide import Dataset

#: Registered by the fixture.
TINY_NET = "tiny-net-of-the-tests"

pytestmark = pytest.mark.usefixtures("tiny_net")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    slides = [phantom_slide(f"S_{i}", seed=i, spots=20) for i in (1, 2, 3)]
    unlabelled = dataclasses.replace(slides[0], name="S_9", abundance=None, cell_types=())
    return Dataset(Path("phantom"), (*slides, unlabelled))


def tiny(**changes: Any) -> Settings:
    base = {
        "backbones": (TINY_NET, TINY_NET),
        "weights": ("random",),
        "patch": (24, 48),
        "input_px": 32,
        "epochs": 2,
        "batch_size": 8,
    }
    return preset("cnn-ensemble", **{**base, **changes})


def train(dataset: Dataset, folds: list[Fold], **options: Any) -> list[Trained]:
    lines: list[str] = options.pop("lines", [])
    settings = options.pop("settings", None) or tiny()
    return train_folds(dataset, settings, folds, device=CPU, tell=lines.append, **options)


def test_each_fold_gets_a_model_and_predictions_of_what_it_held_out(
    dataset: Dataset, tmp_path: Path
) -> None:
    lines: list[str] = []
    folds = [Fold((name,), tmp_path / name) for name in ("S_1", "S_2")]
    trained = train(dataset, folds, lines=lines)
    for fold, result in zip(folds, trained, strict=True):
        assert set(result.predictions) == set(fold.held_out)
        slide = dataset[fold.held_out[0]]
        assert result.predictions[slide.name].shape == (len(slide.xy), len(slide.cell_types))
        used = json.loads((fold.folder / "finetune.json").read_text())["slides"]
        assert fold.held_out[0] not in [entry["slide"] for entry in used]
    assert len(lines) == 2 * 2 * 2  # folds, members, epochs
    assert "fold 1/2" in lines[0]
    assert "epoch 1/2: loss" in lines[0]
    assert "per-spot Spearman" in lines[0]
    assert lines[-1].endswith("at most 0 s left")


def test_the_held_out_slide_changes_nothing_of_the_model(dataset: Dataset, tmp_path: Path) -> None:
    """Scramble the labels of the held-out slide: the same networks come out."""
    first = dataset["S_1"]
    assert first.abundance is not None
    scrambled = dataclasses.replace(first, abundance=first.abundance[::-1] * 7)
    other = Dataset(dataset.path, (scrambled, *dataset.slides[1:]))
    nets = []
    for data, folder in ((dataset, tmp_path / "a"), (other, tmp_path / "b")):
        train(data, [Fold(("S_1",), folder)])
        nets.append(load_tensors(folder / f"member_0_{TINY_NET}" / "model.pt")["net"])
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_a_finished_model_is_not_trained_again(dataset: Dataset, tmp_path: Path) -> None:
    fold = Fold(("S_1",), tmp_path)
    first = train(dataset, [fold])[0]
    lines: list[str] = []
    again = train(dataset, [fold], lines=lines)[0]
    assert lines == []
    np.testing.assert_array_equal(first.predictions["S_1"], again.predictions["S_1"])
    assert again.ensemble.fit_seconds() > 0


def test_a_missing_member_is_all_that_is_trained(dataset: Dataset, tmp_path: Path) -> None:
    fold = Fold(("S_1",), tmp_path)
    first = train(dataset, [fold])[0]
    (tmp_path / f"member_1_{TINY_NET}" / "model.pt").unlink()
    with pytest.raises(HistoboostError, match="not trained to the end"):
        load_ensemble(tmp_path)
    lines: list[str] = []
    again = train(dataset, [fold], lines=lines)[0]
    assert len(lines) == 2
    np.testing.assert_array_equal(first.predictions["S_1"], again.predictions["S_1"])


def test_other_settings_or_data_in_the_same_folder_are_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    train(dataset, [Fold(("S_1",), tmp_path)])
    with pytest.raises(HistoboostError, match="settings: learning_rate 0.0001, not 0.5"):
        train(dataset, [Fold(("S_1",), tmp_path)], settings=tiny(learning_rate=0.5))
    with pytest.raises(HistoboostError, match="other slides"):
        train(dataset, [Fold(("S_2",), tmp_path)])


def test_predictions_are_the_mean_of_the_members(dataset: Dataset, tmp_path: Path) -> None:
    slide = dataset["S_1"]
    ensemble = train(dataset, [Fold(("S_1",), tmp_path)])[0].ensemble
    pixels = load_pixels([slide], CPU)
    both = ensemble.predict(slide, pixels)
    single = []
    for member in (0, 1):  # both members get the weights of one
        folder = tmp_path / f"only_{member}"
        shutil.copytree(tmp_path / f"member_{member}_{TINY_NET}", folder / f"member_0_{TINY_NET}")
        shutil.copytree(tmp_path / f"member_{member}_{TINY_NET}", folder / f"member_1_{TINY_NET}")
        shutil.copy(tmp_path / "finetune.json", folder)
        single.append(load_ensemble(folder).predict(slide, pixels))
    assert not np.allclose(*single)
    np.testing.assert_allclose(both, np.mean(single, axis=0))


def test_the_backbone_file_is_a_frozen_backbone_that_knows_its_slides(
    dataset: Dataset, tmp_path: Path
) -> None:
    train(dataset, [Fold(("S_1",), tmp_path)])
    place = tmp_path / f"member_0_{TINY_NET}"
    backbone = load_backbone(TINY_NET, str(place / "backbone.pth"))
    trained = load_tensors(place / "model.pt")["net"]
    for name, value in backbone.module.state_dict().items():
        assert torch.equal(value, trained[f"trunk.{name}"])
    tuned_on = load_tensors(place / "backbone.pth")["tuned_on"]
    # The slide that stopped the training chose the epoch: it is no test either.
    assert [entry["slide"] for entry in tuned_on] == ["S_2", "S_3"]


def test_curves_are_drawn(dataset: Dataset, tmp_path: Path) -> None:
    train(dataset, [Fold((), tmp_path)])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert is_ensemble(tmp_path)
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_members_are_stopped_by_different_training_slides(dataset: Dataset) -> None:
    assert stopping_slides(dataset.slides[:3], ["auto"]) == ("S_3", "S_2", "S_1")
    assert stopping_slides(dataset.slides[:3], ["S_2"]) == ("S_2",)
    assert stopping_slides(dataset.slides[:3], ["none"]) == ()


def test_a_held_out_slide_cannot_stop_the_training(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HistoboostError, match="none of them is a training slide"):
        train(dataset, [Fold(("S_1",), tmp_path)], stop_on=["S_1"])


def test_a_single_training_slide_trains_all_epochs_with_a_warning(dataset: Dataset) -> None:
    with pytest.warns(HistoboostWarning, match="all epochs are trained"):
        assert stopping_slides(dataset.slides[:1], ["auto"]) == ()


def test_holding_out_all_slides_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HistoboostError, match="no labelled slide is left"):
        train(dataset, [Fold(("S_1", "S_2", "S_3"), tmp_path)])


def test_unlabelled_slides_cannot_be_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HistoboostError, match="S_9 has no labels"):
        train(dataset, [Fold((), tmp_path)], slides=["S_1", "S_9"])


def test_a_backbone_of_ones_own_that_brings_its_weights_can_be_tuned(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch
from torch import nn
from histoboost.featurize.backbones.base import Architecture

def net():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8))
    return Architecture(module=module, head="head", layer="2", input_px=None)
"""
    (tmp_path / "my_net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    settings = tiny(backbones=("my_net:net",), weights=("pretrained",), input_px=None, epochs=1)
    first = train(dataset, [Fold(("S_1",), tmp_path / "cnn")], settings=settings)[0]
    assert [path.name for path in (tmp_path / "cnn").glob("member_*")] == ["member_0_my_net_net"]
    again = load_ensemble(tmp_path / "cnn", ["my_net:net"]).predict(
        dataset["S_1"], load_pixels([dataset["S_1"]], CPU)
    )
    np.testing.assert_array_equal(first.predictions["S_1"], again)
