"""Networks of timm and huggingface.co, and the line that explains why one cannot be fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.backbones.poolings import ClassAndMean
from histoboost.featurize.backbones.weights import fit_weights

timm = pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")


@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:test_resnet.r160_in1k"])
def test_a_network_of_timm_has_its_own_size_and_normalisation(name: str):
    net = load_backbone(name, "random")
    config = timm.get_pretrained_cfg(name.removeprefix("timm:"))
    assert net.input_px == config.input_size[-1]
    assert (net.mean, net.std) == (tuple(config.mean), tuple(config.std))
    with torch.inference_mode():
        rows = net.module(torch.randn(2, 3, net.input_px, net.input_px))
    assert rows.ndim == 2
    assert torch.isfinite(rows).all()
    assert not torch.equal(rows[0], rows[1])
    assert net.weights_digest == load_backbone(name, "random").weights_digest


def test_timm_and_torchvision_weights_of_one_network_give_the_same_rows(tmp_path: Path):
    torch.manual_seed(0)
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    here = load_backbone("resnet18", str(tmp_path / "resnet18.pth"))
    there = load_backbone("timm:resnet18", str(tmp_path / "resnet18.pth"))
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(here.module(pixels), there.module(pixels))


def test_safetensors_are_read(tmp_path: Path):
    from safetensors.torch import save_file

    state = timm.create_model("test_vit", pretrained=False).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.pth")
    one, two = (load_backbone("timm:test_vit", str(path)) for path in tmp_path.glob("model.*"))
    assert one.weights_digest == two.weights_digest
    (tmp_path / "bad.safetensors").write_bytes(b"not this")
    with pytest.raises(HistoboostError, match="bad.safetensors: not a safetensors file"):
        load_backbone("timm:test_vit", str(tmp_path / "bad.safetensors"))


def test_a_repository_in_the_cache_needs_no_network(hub: Callable):
    from safetensors.torch import save_file

    config = {"input_size": [3, 160, 160], "mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.2]}
    config = {"architecture": "test_vit", "num_classes": 0, "pretrained_cfg": config}
    snapshot = hub("me/tiny", config)
    torch.manual_seed(3)
    state = timm.create_model("test_vit", pretrained=False, num_classes=0).state_dict()
    save_file(state, snapshot / "model.safetensors")
    with pytest.warns(HistoboostWarning, match=r"not on the list .* mean 0.7, 0.6, 0.7 and"):
        net = load_backbone("hf-hub:me/tiny")
    assert (net.mean, net.input_px, net.weights) == ((0.7, 0.6, 0.7), 160, "pretrained")
    torch.testing.assert_close(net.module.state_dict()["norm.bias"], state["norm.bias"])


def test_weights_of_class_and_mean_come_from_a_file_of_the_network(tmp_path: Path):
    torch.manual_seed(1)
    source = timm.create_model("test_vit", num_classes=3)
    joined = ClassAndMean(timm.create_model("test_vit", num_classes=0))
    fit_weights(joined, source.state_dict(), head="head", source="file", backbone="x")
    torch.testing.assert_close(joined.network.norm.weight, source.norm.weight)
    torch.testing.assert_close(joined.network.pos_embed, source.pos_embed)


def test_class_and_mean_leave_the_registers_out():
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False, num_classes=0, reg_tokens=2).eval()
    pixels = torch.randn(2, 3, 160, 160)
    tokens = network.forward_features(pixels)
    assert network.num_prefix_tokens == 3
    expected = torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], 1)
    torch.testing.assert_close(ClassAndMean(network)(pixels), expected)


def test_offline_one_line_names_the_cache_folder(hub: Callable, tmp_path: Path):
    for name in ("hf-hub:me/unlisted", "timm:test_vit.r160_in1k"):
        with pytest.raises(
            HistoboostError, match="could not be fetched from huggingface.co"
        ) as error:
            load_backbone(name)
        assert str(error.value).startswith(f"backbone {name}: ")
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "licence must be accepted first; do so on https://"),
        ("RepositoryNotFoundError", "no such repository, or a private one"),
        ("HfHubHTTPError", "could not be fetched from huggingface.co"),
    ],
)
def test_a_refusal_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, kind: str, message: str):
    from huggingface_hub import errors

    def refuse(*args: object, **kwargs: object) -> None:
        error = getattr(errors, kind)
        raise error.__new__(error, "403 Client Error\nCannot access gated repo")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(HistoboostError, match=message) as caught:
        load_backbone("hf-hub:me/gated")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_suggests_a_close_one():
    with pytest.raises(HistoboostError, match="did you mean timm:resnet50"):
        load_backbone("timm:resnet_50", "random")
