"""Backbones: the registry, and how weights are found, fitted and identified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from histoboost.errors import HistoboostError
from histoboost.featurize.backbones import weights
from histoboost.featurize.backbones.factory import describe_backbones, load_backbone
from histoboost.featurize.backbones.layers import widths
from histoboost.featurize.backbones.torchvision import NETWORKS


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, torch.Tensor]:
    from torchvision import models

    torch.manual_seed(1)
    return models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_backbone_gives_finite_rows_that_float16_can_hold(name: str):
    net = load_backbone(name, "random")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = net.module(pixels)
    assert out.ndim == 2
    assert not net.module.training
    assert 1e-2 < float(out.abs().max()) < 30000
    assert float((out[0] - out[1]).abs().max()) > 1e-3


def test_every_backbone_is_described_in_one_line():
    assert NETWORKS.keys() <= describe_backbones().keys()
    assert all(describe_backbones().values())


def test_an_unknown_name_lists_known_names_and_suggests_a_close_one():
    with pytest.raises(HistoboostError, match="did you mean resnet50.*efficientnet_b0"):
        load_backbone("resnet_50")
    with pytest.raises(HistoboostError, match="did you mean virchow2"):
        load_backbone("virchow-2")
    with pytest.raises(HistoboostError, match="known are"):
        load_backbone("zzzzzz")


def test_a_network_that_returns_a_map_is_refused(tiny_net: str):
    net = load_backbone(tiny_net)
    net = replace(net, module=net.module[:6])
    with pytest.raises(HistoboostError, match=r"returns \(1, 16, 7, 7\) for one patch"):
        widths(net, 32)


def test_random_weights_follow_the_seed_and_leave_the_random_state_alone():
    state = torch.get_rng_state()
    first, again, other = (load_backbone("resnet18", "random", seed) for seed in (0, 0, 1))
    assert first.weights_digest == again.weights_digest != other.weights_digest
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
        lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
        lambda state: {k: v for k, v in state.items() if not k.startswith("fc.")},
        lambda state: {**state, "fc.weight": torch.zeros(35, 512), "fc.bias": torch.zeros(35)},
    ],
)
def test_the_digest_of_weights_does_not_depend_on_their_wrapping(tmp_path, resnet_state, wrap):
    torch.save(resnet_state, tmp_path / "plain.pth")
    torch.save(wrap(resnet_state), tmp_path / "wrapped.pth")
    plain = load_backbone("resnet18", str(tmp_path / "plain.pth"))
    wrapped = load_backbone("resnet18", str(tmp_path / "wrapped.pth"))
    assert plain.weights_digest == wrapped.weights_digest
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain.module(pixels), wrapped.module(pixels))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mobilenet_v2", {}, r"w.pth: does not fit mobilenet_v2: .* more"),
        ("resnet18", {"layer4.1.conv2.weight": None}, "'layer4.1.conv2.weight' is missing"),
        ("resnet18", {"conv1.weight": torch.zeros(64, 4, 7, 7)}, r"has shape \(64, 4, 7, 7\)"),
    ],
)
def test_weights_that_do_not_fit_name_the_first_difference(
    tmp_path: Path, resnet_state, name, changes, message
):
    state = {key: value for key, value in {**resnet_state, **changes}.items() if value is not None}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(HistoboostError, match=message):
        load_backbone(name, str(tmp_path / "w.pth"))


class Unsafe:
    """Something that only unpickles by running code."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(({"state_dict": {}}, "holds no weights"), ([1, 2], "holds no weights")),
        ({"layer": 1.0, "x": torch.zeros(1)}, "holds no weights"),
        ({"state_dict": Unsafe()}, "not a file of plain weights"),
        (b"hello", "not a file of plain weights"),
        (b"", "not a file of plain weights"),
        (None, "no such weights file"),
    ],
)
def test_a_file_without_plain_weights_is_refused(tmp_path: Path, content: object, message: str):
    if isinstance(content, bytes):
        (tmp_path / "odd.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(HistoboostError, match=f"odd.pth: {message}") as error:
        weights.read_weights(tmp_path / "odd.pth")
    assert "\n" not in str(error.value)


def test_a_failed_download_names_the_file_and_its_folder(tmp_path, monkeypatch, capfd):
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(HistoboostError, match=r"resnet18-\w+.pth could not be fetched") as error:
        load_backbone("resnet18")
    assert str(tmp_path / "checkpoints") in str(error.value)
    assert "--weights PATH" in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_the_real_weights_fit(shared: Path):
    net = load_backbone("mobilenet_v2", str(shared / "weights" / "mobilenet_v2.pth"))
    assert net.module(torch.zeros(1, 3, 224, 224)).shape == (1, 1280)
