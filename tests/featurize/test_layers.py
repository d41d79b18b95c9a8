"""Several embeddings from one forward pass equal those of separate passes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from histoboost.cache.embedding_writer import EmbeddingWriter
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Architecture, Backbone
from histoboost.featurize.backbones.factory import REGISTRY, load_backbone
from histoboost.featurize.backbones.layers import parse_layers, widths, with_layers
from histoboost.featurize.backbones.torchvision import NETWORKS
from histoboost.featurize.engines.pick import pick_engine
from histoboost.slides.slide import Dataset

CPU = torch.device("cpu")
QUICK = ("mobilenet_v2", "resnet18")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra [openvino] is not installed"
)


def patches(px: int, count: int = 2) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, px // 8, px // 8, generator=noise)
    return (nn.functional.interpolate(coarse, size=px, mode="bilinear") * 255).to(torch.uint8)


def normal(net: Backbone) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (net.mean, net.std))
    return (patches(net.input_px) / 255 - mean) / std


def columns(net: Backbone, engine: str, views: int = 1) -> list[np.ndarray]:
    """Output of one pass, layer by layer."""
    px = net.input_px
    rows = pick_engine(net, CPU, engine=engine, views=views, batch=2).submit(patches(px))()
    return np.split(rows, np.cumsum(widths(net, px))[:-1], axis=1)


def outputs(net: Backbone) -> dict[str, torch.Tensor]:
    """Outputs of the deep layers of the plain network, by name."""
    found: dict[str, torch.Tensor] = {}
    for name in net.deep:
        layer = net.module.get_submodule(name.partition(":")[0])
        layer.register_forward_hook(
            lambda module, given, out, name=name: found.setdefault(name, out.clone())
        )
    with torch.inference_mode():
        net.module(normal(net))
    return found


def small(name: str) -> Backbone:
    """With random weights and a small input."""
    return replace(load_backbone(name, "random"), input_px=64)


@pytest.mark.parametrize(
    ("name", "layers", "views"),
    [
        ("mobilenet_v2", "features.3:std,features.3,features.3.conv.0,default", 1),  # nested, twice
        ("mobilenet_v2", "deep", 8),
        *(
            pytest.param(name, "deep", 1, marks=() if name in QUICK else pytest.mark.soak)
            for name in NETWORKS
        ),
    ],
)
def test_one_pass_equals_a_pass_per_layer_to_the_last_bit(name: str, layers: str, views: int):
    net = with_layers(small(name), layers)
    for layer, ours in zip(net.layers, columns(net, "torch", views), strict=True):
        (alone,) = columns(with_layers(small(name), layer), "torch", views)
        np.testing.assert_array_equal(ours, alone)


@needs_openvino
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "mobilenet_v2" else pytest.mark.soak)
        for name in NETWORKS
    ],
)
def test_one_pass_in_openvino_equals_a_pass_per_layer(name: str):
    net, deep = small(name), with_layers(small(name), "deep")
    ours, torchs = columns(deep, "openvino"), columns(deep, "torch")
    alone = columns(net, "openvino") + columns(with_layers(net, ",".join(net.deep)), "openvino")
    for own, single, other in zip(ours, alone, torchs, strict=True):
        np.testing.assert_array_equal(own, single)
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_deep_layers_are_the_last_of_their_stride_and_pooled_as_named(name: str):
    net = load_backbone(name, "random")
    net = replace(net, module=getattr(net.module, "network", net.module), input_px=64)
    found = outputs(net)
    strides = [64 // found[layer].shape[-1] for layer in net.deep]
    assert strides == ([16, 8, 4, 4] if name == "convnext_tiny" else [16, 8, 4, 2])
    with torch.inference_mode():
        rows = with_layers(net, "deep").module(normal(net))
    parts = rows.split(widths(with_layers(net, "deep"), 64), 1)[1:]
    for layer, part in zip(net.deep, parts, strict=True):
        ours = part.numpy()
        maps = found[layer].numpy()
        pooled = maps.mean((2, 3)) if layer.endswith(":mean") else maps.std((2, 3))
        np.testing.assert_allclose(ours, pooled, rtol=1e-3, atol=1e-4 * np.abs(pooled).max())


def test_a_transformer_gives_class_token_patch_tokens_and_its_middle(tmp_path: Path):
    timm = pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")
    net = load_backbone("timm:test_vit", "random")
    depth = len(net.module.blocks)
    assert net.deep == ("norm:mean", f"blocks.{depth // 2 - 1}:mean")
    default, mean, middle = columns(with_layers(net, "deep"), "torch")
    np.testing.assert_array_equal(default, columns(net, "torch")[0])
    network = timm.create_model("test_vit", num_classes=0).eval()
    network.load_state_dict(net.module.state_dict())
    pixels = normal(net)
    with torch.inference_mode():
        tokens, (half,) = network.forward_intermediates(
            pixels, indices=[depth // 2 - 1], norm=False
        )
    np.testing.assert_allclose(mean, tokens[:, network.num_prefix_tokens :].mean(1), atol=1e-4)
    np.testing.assert_allclose(middle, half.mean((2, 3)), atol=1e-4)


def test_a_cnn_of_timm_has_deep_layers_of_the_same_strides():
    pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")
    net = load_backbone("timm:resnet18", "random")
    assert net.deep == ("layer3:mean", "layer2:mean", "layer1:std", "act1:std")
    assert widths(with_layers(net, "deep"), 64) == [512, 256, 128, 64, 64]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("features.99", "no such layer; did you mean features.9"),
        ("features.99:mean", "--layers features.99:mean: the network"),
        ("default, features.99", "--layers features.99: the network"),
        ("features.3:max", "poolings are mean, std, class"),
        ("features.3:class", "of an output .* there is no such pooling"),
        ("deeper layer", "give default, deep"),
        ("", "give default, deep"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused_with_the_remedy(layers: str, message: str):
    with pytest.raises(HistoboostError, match=message):
        with_layers(small("mobilenet_v2"), layers)


def test_a_network_without_layers_refuses_any():
    net = load_backbone("stain-texture", "pretrained")
    with pytest.raises(HistoboostError, match="--layers deep2: stain-texture has no layers"):
        with_layers(net, "deep2")


def test_layers_are_parsed_in_order_without_repeats():
    assert parse_layers("b.1, deep,default,b.1:mean", ("c:std",)) == (
        "b.1:mean",
        "default",
        "c:std",
    )
    assert parse_layers("deep", ()) == ("default",)


@pytest.fixture(scope="module")
def deep_net() -> str:
    """A registered network with two deep layers."""
    name = "deep-net-of-the-tests"
    if name not in REGISTRY:

        def build() -> Architecture:
            """Two convolutions."""
            module = nn.Sequential(
                *(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2)),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            )
            deep = ("1:std", "2:mean")
            return Architecture(module, "head", "3", 16, pretrained=module.state_dict, deep=deep)

        REGISTRY[name] = build

    return name


@pytest.fixture
def data(noise_slide) -> Dataset:
    return Dataset(Path("memory"), [noise_slide()])


def test_every_layer_is_an_embedding_with_a_recipe_of_its_own(
    tmp_path: Path, deep_net: str, data: Dataset
):
    options = {"backbone": deep_net, "patch": [8, 12], "engine": "torch"}
    done = featurize(data, tmp_path / "deep", **options)
    featurize(data, tmp_path / "plain", layers="default", **options)
    deep, plain = EmbeddingStore(tmp_path / "deep"), EmbeddingStore(tmp_path / "plain")
    names = [f"{deep_net}@{px}{end}" for px in (8, 12) for end in ("", ".1.std", ".2")]
    assert done.embeddings == names
    assert done.computed == 2 * 9
    recipes = deep.embeddings("S")
    assert set(recipes) == set(names)
    for name in plain.embeddings("S"):
        assert plain.embeddings("S")[name] == recipes[name]
        np.testing.assert_array_equal(plain.read("S", name), deep.read("S", name))
    assert recipes[names[1]].differences(recipes[names[0]]) == ['layer: "1:std", not "3"']
    again = featurize(data, tmp_path / "plain", **options)
    assert (again.computed, again.kept) == (2 * 9, 0)
    assert plain.embeddings("S") == recipes


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"backbone": "stain-texture", "layers": "deep"}, {"stain-texture@8"}),
        ({"backbone": "stain-texture", "layers": "default"}, {"stain-texture@8"}),
        ({"name": "mine", "layers": "2,1:std"}, {"mine.2", "mine.1.std"}),
    ],
)
def test_embeddings_are_named_after_their_layer(
    tmp_path: Path, deep_net: str, data: Dataset, options: dict, names: set[str]
):
    featurize(data, tmp_path / "s", **{"backbone": deep_net, "patch": 8, **options})
    assert set(EmbeddingStore(tmp_path / "s").embeddings("S")) == names


def test_only_missing_chunks_of_a_layer_are_computed_and_written(
    tmp_path, deep_net, noise_slide, monkeypatch
):
    data = Dataset(Path("memory"), [noise_slide(spots=1030)])
    options = {"backbone": deep_net, "patch": 8, "engine": "torch"}
    featurize(data, tmp_path / "store", **options)
    store = EmbeddingStore(tmp_path / "store")
    name = f"{deep_net}@8.1.std"
    whole = {each: store.read("S", each) for each in store.embeddings("S")}
    (chunk,) = (tmp_path / "store" / "slides" / "S" / "obsm" / name).rglob("c/1/0")
    chunk.write_bytes(b"damaged" + chunk.read_bytes()[7:])
    written: list[tuple[str, slice]] = []
    write = EmbeddingWriter.write

    def record(self: EmbeddingWriter, rows: slice, array: np.ndarray) -> None:
        written.append((self._name, rows))
        write(self, rows, array)

    monkeypatch.setattr(EmbeddingWriter, "write", record)
    done = featurize(data, tmp_path / "store", **options)
    assert (done.computed, done.kept) == (6, 1024)
    assert written == [(name, slice(1024, 1030))]
    for each, rows in whole.items():
        np.testing.assert_array_equal(store.read("S", each), rows)


def test_the_manual_lists_the_layers_of_every_network():
    page = Path(__file__).parents[2] / "docs" / "foundation-models.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    for name, network in NETWORKS.items():
        cells = " | ".join(
            f"`{layer}`" for layer in (name, network.layer, *network.deep.split(","))
        )
        assert f"| {cells} |" in lines
