"""Backbones: what the registry offers, and how weights are found, fitted and known."""

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


def test_the_registry_names_them_all_with_a_line_each():
    assert NETWORKS.keys() <= describe_backbones().keys()
    assert all(describe_backbones().values())


def test_an_unknown_name_lists_the_known_and_suggests_the_close():
    with pytest.raises(HistoboostError, match="did you mean resnet50.*efficientnet_b0"):
        load_backbone("resnet_50")
    with pytest.raises(HistoboostError, match="known are"):
        load_backbone("zzzzzz")


def test_a_network_that_returns_a_map_is_refused(tiny_net: str):
    net = load_backbone(tiny_net)
    net = replace(net, module=net.module[:6])
    with pytest.raises(HistoboostError, match=r"returns \(1, 16, 7, 7\) for one patch"):
        widths(net, 32)


def test_random_weights_follow_the_seed():
    first, again, other = (load_backbone("resnet18", "random", seed) for seed in (0, 0, 1))
    assert first.weights_digest == again.weights_digest != other.weights_digest
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(first.module(pixels), again.module(pixels))


def test_loading_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_backbone("resnet18", "random")
    assert torch.equal(torch.rand(1), expected)


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
def test_weights_are_known_by_content_however_they_are_wrapped(tmp_path, resnet_state, wrap):
    torch.save(resnet_state, tmp_path / "plain.pth")
    torch.save(wrap(resnet_state), tmp_path / "wrapped.pth")
    plain = load_backbone("resnet18", str(tmp_path / "plain.pth"))
    wrapped = load_backbone("resnet18", str(tmp_path / "wrapped.pth"))
    assert plain.weights_digest == wrapped.weights_digest
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain.module(pixels), wrapped.module(pixels))


def test_one_changed_weight_changes_the_digest(tmp_path, resnet_state):
    torch.save(resnet_state, tmp_path / "a.pth")
    changed = {name: value.clone() for name, value in resnet_state.items()}
    changed["layer1.0.conv1.weight"][0, 0, 0, 0] += 1e-6
    torch.save(changed, tmp_path / "b.pth")
    digests = {
        load_backbone("resnet18", str(tmp_path / f)).weights_digest for f in ("a.pth", "b.pth")
    }
    assert len(digests) == 2


def test_weights_that_do_not_fit_name_the_first_difference(tmp_path: Path, resnet_state):
    torch.save(resnet_state, tmp_path / "resnet.pth")
    with pytest.raises(HistoboostError, match=r"resnet.pth: does not fit mobilenet_v2: .* more"):
        load_backbone("mobilenet_v2", str(tmp_path / "resnet.pth"))
    missing = dict(resnet_state)
    del missing["layer4.1.conv2.weight"]
    torch.save(missing, tmp_path / "missing.pth")
    with pytest.raises(HistoboostError, match="'layer4.1.conv2.weight' is missing"):
        load_backbone("resnet18", str(tmp_path / "missing.pth"))
    torch.save({**resnet_state, "conv1.weight": torch.zeros(64, 4, 7, 7)}, tmp_path / "shape.pth")
    with pytest.raises(HistoboostError, match=r"conv1.weight' has shape \(64, 4, 7, 7\)"):
        load_backbone("resnet18", str(tmp_path / "shape.pth"))


class Unsafe:
    """Something that only unpickles by running code."""


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], {"epoch": 3}, {"layer": 1.0, "x": torch.zeros(1)}]
)
def test_a_file_without_weights_says_so(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(HistoboostError, match=r"odd.pth: holds no weights"):
        weights.read_weights(tmp_path / "odd.pth")


def test_a_file_that_needs_code_or_is_no_torch_file_is_refused(tmp_path: Path):
    torch.save({"state_dict": Unsafe()}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("code.pth", "text.pth", "empty.pth"):
        with pytest.raises(HistoboostError, match=f"{name}: not a file of plain weights") as error:
            weights.read_weights(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(HistoboostError, match="no such weights file"):
        weights.read_weights(tmp_path / "absent.pth")


def test_a_failed_download_says_which_file_and_where_to_put_it(tmp_path, monkeypatch, capfd):
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
