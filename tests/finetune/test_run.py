"""Models are trained separately, resumed, and never see their held-out slides."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.finetune.ensemble import Ensemble
from histoboost.finetune.folder import load_tensors, save_tensors
from histoboost.finetune.plan import stopping_slides
from histoboost.finetune.presets import Settings
from histoboost.finetune.run import Trained
from histoboost.finetune.spot_patches import load_pixels
from histoboost.slides.slide import Dataset

Train = Callable[..., list[Trained]]
CPU = torch.device("cpu")


@pytest.fixture
def copy(finished: Trained, tmp_path: Path) -> Path:
    """A folder of the finished model to change."""
    return Path(shutil.copytree(finished.plan.folder, tmp_path / "cnn"))


def outputs(ensemble: Ensemble, dataset: Dataset) -> Any:
    return ensemble.outputs(dataset["S_1"], load_pixels([dataset["S_1"]], CPU, 48))


@pytest.mark.filterwarnings("ignore:.*only training slide")
def test_each_fold_has_a_model_and_predictions_of_its_held_out_slides(
    dataset: Dataset, tmp_path: Path, train: Train
) -> None:
    lines: list[str] = []
    trained = train(
        dataset, tmp_path, held_out=None, slides=["S_1", "S_2"], cross_validate=True, lines=lines
    )
    for name, result in zip(("S_1", "S_2"), trained, strict=True):
        assert result.plan.folder == tmp_path / "folds" / name
        assert set(result.predictions) == {name}
        slide = dataset[name]
        assert result.predictions[name].shape == (len(slide.xy), len(slide.cell_types))
        used = json.loads((result.plan.folder / "finetune.json").read_text())["slides"]
        assert name not in [entry["slide"] for entry in used]
    assert len(lines) == 2 * 2 * 2  # folds, members, epochs
    assert "fold 1/2" in lines[0]
    assert "epoch 1/2: loss" in lines[0]
    assert lines[-1].endswith("up to 0:00:00 left")


def test_the_held_out_slide_changes_nothing_of_the_model(
    dataset: Dataset, tmp_path: Path, train: Train, finished: Trained
) -> None:
    """Scramble the labels of the held-out slide: the same networks come out."""
    first = dataset["S_1"]
    assert first.abundance is not None
    scrambled = dataclasses.replace(first, abundance=first.abundance[::-1] * 7)
    [other] = train(Dataset(dataset.path, (scrambled, *dataset.slides[1:])), tmp_path)
    for member in other.ensemble.members:
        nets = [load_tensors(one.plan.folder / member / "model.pt") for one in (finished, other)]
        assert all(torch.equal(value, nets[1]["net"][k]) for k, value in nets[0]["net"].items())


@pytest.mark.parametrize("missing", [0, 1])
def test_only_missing_members_are_trained(
    dataset: Dataset, copy: Path, train: Train, finished: Trained, missing: int
) -> None:
    if missing:
        (copy / finished.ensemble.members[1] / "model.pt").unlink()
        with pytest.raises(HistoboostError, match="is not finished"):
            Ensemble.load(copy)
    lines: list[str] = []
    [again] = train(dataset, copy, lines=lines)
    assert len(lines) == 2 * missing
    assert all("per-spot Spearman" in line for line in lines)
    np.testing.assert_array_equal(finished.predictions["S_1"], again.predictions["S_1"])
    assert again.ensemble.fit_seconds() > 0


def test_other_settings_or_data_in_the_same_folder_are_refused(
    dataset: Dataset, copy: Path, train: Train, tiny: Callable[..., Settings]
) -> None:
    with pytest.raises(HistoboostError, match="settings: learning_rate 0.0001, not 0.5"):
        train(dataset, copy, tiny(learning_rate=0.5))
    with pytest.raises(HistoboostError, match="different slides"):
        train(dataset, copy, held_out=["S_2"])


def test_leftovers_of_a_killed_run_are_not_foreign_files(
    dataset: Dataset, copy: Path, train: Train, tmp_path: Path, tiny: Callable[..., Settings]
) -> None:
    (tmp_path / "new" / ".histoboost-x").mkdir(parents=True)
    member = copy / "member_1_tiny-net-of-the-tests"
    (member / "model.pt").rename(member / "model.pt.77.part")  # as 0.1.0 wrote
    (member / ".histoboost-x").mkdir()
    train(dataset, copy)
    assert not list(member.glob("*.part")) + list(member.glob(".histoboost-*"))
    one = tiny(epochs=1, backbones=("tiny-net-of-the-tests",))
    assert train(dataset, tmp_path / "new", one)


def test_predictions_are_the_mean_of_the_members(
    dataset: Dataset, tmp_path: Path, finished: Trained
) -> None:
    single = []
    for member in (0, 1):  # both members get the weights of one
        folder = Path(shutil.copytree(finished.plan.folder, tmp_path / str(member)))
        source, other = (folder / finished.ensemble.members[i] for i in (member, 1 - member))
        shutil.copy(source / "model.pt", other)
        single.append(outputs(Ensemble.load(folder), dataset))
    assert not np.allclose(*single)
    np.testing.assert_allclose(outputs(finished.ensemble, dataset), np.mean(single, axis=0))


def test_the_backbone_file_is_a_backbone_whose_recipe_names_its_slides_and_input_size(
    finished: Trained, tiny_net: str, dataset: Dataset, tmp_path: Path
) -> None:
    folder, path = finished.plan.folder / finished.ensemble.members[0], tmp_path / "backbone.pth"
    saved, trained = load_tensors(folder / path.name), load_tensors(folder / "model.pt")["net"]
    backbone = load_backbone(tiny_net, str(folder / path.name))
    for name, value in backbone.module.state_dict().items():
        assert torch.equal(value, trained[f"trunk.{name}"])
    assert [entry["slide"] for entry in saved["tuned_on"]] == ["S_2", "S_3"]
    save_tensors({**saved, "input_px": 48}, path)  # not the network's own
    for name, weights in (("tuned", str(path)), ("frozen", "random")):
        one = Dataset(dataset.path, dataset.slides[:1])
        featurize(one, tmp_path / "s", backbone=tiny_net, patch=[24], weights=weights, name=name)
    recipes = EmbeddingStore(tmp_path / "s", mode="r").embeddings("S_1")
    assert recipes["tuned"].fields["tuned_on"] == saved["tuned_on"]
    assert recipes["tuned"].fields["input_px"] == 48
    assert "tuned_on" not in recipes["frozen"].fields
    assert recipes["frozen"].fields["input_px"] == 32


def test_curves_are_drawn_and_no_checkpoint_stays(finished: Trained) -> None:
    assert (finished.plan.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(finished.plan.folder.rglob("checkpoint.pt"))


def test_members_are_stopped_by_different_training_slides_if_there_are_several(
    dataset: Dataset,
) -> None:
    assert stopping_slides(dataset.slides[:3], ["auto"]) == ("S_3", "S_2", "S_1")
    assert stopping_slides(dataset.slides[:3], ["S_2"]) == ("S_2",)
    assert stopping_slides(dataset.slides[:3], ["none"]) == ()
    with pytest.warns(HistoboostWarning, match="all epochs are run"):
        assert stopping_slides(dataset.slides[:1], ["auto"]) == ()


def test_your_own_backbone_with_weights_can_be_tuned(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Train,
    tiny: Callable[..., Settings],
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
    [first] = train(dataset, tmp_path / "cnn", settings)
    assert [path.name for path in (tmp_path / "cnn").glob("member_*")] == ["member_0_my_net_net"]
    again = outputs(Ensemble.load(tmp_path / "cnn", ["my_net:net"]), dataset)
    np.testing.assert_array_equal(first.predictions["S_1"], again)
