"""The list of pathology models agrees with what is built, and with the manual."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.backbones import pathology
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import is_harmless, load_backbone
from histoboost.featurize.backbones.foundation_model import (
    NORMALISATIONS,
    POOLINGS,
    FoundationModel,
)
from histoboost.featurize.backbones.layers import with_layers
from histoboost.featurize.backbones.pathology import canonical_name, embedding_label
from histoboost.featurize.backbones.timm import listed_architecture
from histoboost.featurize.resize import FILTERS
from histoboost.slides.slide import Dataset, Slide

timm = pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")

DOCS = Path(__file__).parents[2] / "docs"
every_model = pytest.mark.parametrize("model", pathology.MODELS, ids=lambda model: model.short)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> FoundationModel:
    """A listed model with class token and mean of patch tokens, the smallest that timm has."""
    model = replace(
        pathology.foundation_model("virchow2"),
        name="Tiny",
        repository="me/Tiny",
        revision="0123abc" + 33 * "0",
        architecture="test_vit",
        arguments={"reg_tokens": 2},
        swiglu=False,
        width=128,
        input_px=160,
        normalisation="half",
    )
    monkeypatch.setattr(pathology, "MODELS", (*pathology.MODELS, model))
    return model


#: Fewer and narrower blocks, so that a test takes no time.
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3, "weight_init": "skip"}


def smaller(model: FoundationModel) -> Backbone:
    """The model with two narrow blocks and random weights."""
    torch.manual_seed(0)
    net = listed_architecture(model, **SMALL)
    for values in net.module.parameters():
        nn.init.normal_(values, std=0.05)
    facts = {name: getattr(net, name) for name in ("input_px", "mean", "std", "layer", "deep")}
    identity = {"name": model.backbone, "weights": "random", "weights_digest": ""}
    return Backbone(**facts, **identity, module=net.module.eval())


@every_model
def test_a_model_has_the_listed_width_and_size(model: FoundationModel):
    with torch.device("meta"):  # shapes only: some hold a billion weights
        net = listed_architecture(model, weight_init="skip")
        rows = net.module.eval()(torch.zeros(1, 3, model.input_px, model.input_px))
    assert rows.shape == (1, model.width)
    assert round(sum(p.numel() for p in net.module.parameters()) / 1e6) == model.parameters
    assert (net.mean, net.std) == NORMALISATIONS[model.normalisation]
    assert net.interpolation == model.interpolation


@every_model
def test_deep_layers_are_the_class_token_and_means_of_patch_tokens(model: FoundationModel):
    net = smaller(model)
    pixels = torch.randn(1, 3, model.input_px, model.input_px)
    inner = net.module.network if hasattr(net.module, "network") else net.module
    first: list[torch.Tensor] = []
    with torch.inference_mode():
        handle = inner.blocks[0].register_forward_hook(lambda m, i, out: first.append(out))
        plain, tokens = net.module(pixels), inner.forward_features(pixels)
        handle.remove()
        rows = with_layers(net, "default,norm:class,norm:mean,blocks.0:mean").module(pixels)
        assert with_layers(net, "deep").layers[-1] == "blocks.0:mean"
    patches = tokens.shape[1] - inner.num_prefix_tokens
    assert patches == (model.input_px // inner.patch_embed.patch_size[0]) ** 2
    expected = [plain, tokens[:, 0], *(t[:, -patches:].mean(1) for t in (tokens, first[0]))]
    torch.testing.assert_close(rows, torch.cat(expected, 1))


def test_the_list_is_complete_and_its_names_are_unique():
    names = [name for m in pathology.MODELS for name in (m.short, m.backbone.lower(), *m.also)]
    assert len(set(names)) == len(names)
    for model in pathology.MODELS:
        assert len(model.checked.split(", ")) >= 2
        assert model.pooling in POOLINGS
        assert model.interpolation in FILTERS
        assert model.revision is None or len(model.revision) == 40


@every_model
def test_a_model_is_found_by_each_of_its_names_in_any_case(model: FoundationModel):
    for name in (model.name, model.short, *model.also, model.backbone, model.backbone.upper()):
        assert pathology.foundation_model(name) is model
        assert canonical_name(name) == model.backbone
    assert is_harmless(model.short)
    assert embedding_label(model.name) == model.short
    assert embedding_label(model.backbone.lower()) == model.backbone


def test_the_manual_matches_the_list():
    spec = importlib.util.spec_from_file_location("models_table", DOCS / "models_table.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = (DOCS / "foundation-models.md").read_text(encoding="utf-8")
    assert text == made.page(text), "run: python docs/models_table.py"
    sources = {name for model in pathology.MODELS for name in model.checked.split(", ")}
    assert all(f"| {name} |" in text or "/" in name for name in sources)


def test_the_command_fits_a_terminal_and_recommends_models():
    lines = CliRunner().invoke(main, ["backbones"]).output.splitlines()
    assert max(map(len, lines)) <= 100
    for model in pathology.MODELS:
        assert any(line.split(" ")[0] == model.short for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "For a CPU: h0-mini first" in text
    assert "For a GPU: h-optimus-0 first" in text
    free = text.partition("For commercial use: ")[2]
    assert all((model.short in free) is (model.commercial is True) for model in pathology.MODELS)


def test_weights_come_from_an_offline_cache_at_the_pinned_revision(
    tiny: FoundationModel, hub: Callable[..., Path], tmp_path: Path
):
    from safetensors.torch import save_file

    torch.manual_seed(3)
    state = timm.create_model("test_vit", reg_tokens=2, num_classes=5).state_dict()
    snapshot = hub("me/Tiny", {}, revision=tiny.revision)
    save_file(state, snapshot / "model.safetensors")
    torch.save(state, tmp_path / "tiny.pth")
    cached, given = load_backbone("tiny"), load_backbone("tiny", str(tmp_path / "tiny.pth"))
    (snapshot / "model.safetensors").unlink()
    torch.save(state, snapshot / "pytorch_model.bin")
    other = load_backbone("tiny")
    assert cached.weights_digest == given.weights_digest == other.weights_digest
    assert (cached.name, cached.input_px, cached.mean) == ("hf-hub:me/Tiny", 160, (0.5, 0.5, 0.5))
    torch.testing.assert_close(cached.module.network.norm.bias, state["norm.bias"])


def test_without_weights_one_line_says_what_to_do(tiny: FoundationModel, hub: Callable[..., Path]):
    with pytest.raises(HistoboostError, match="at revision 0123abc0 .*--weights FILE") as error:
        load_backbone("tiny")
    assert "\n" not in str(error.value)


def test_a_gate_is_one_line(monkeypatch: pytest.MonkeyPatch, tiny: FoundationModel):
    from huggingface_hub.errors import GatedRepoError

    def refuse(*args: object, **kwargs: object) -> None:
        raise GatedRepoError.__new__(GatedRepoError, "403 Client Error\nCannot access gated repo")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(HistoboostError, match="licence must be accepted first.*me/Tiny") as error:
        load_backbone("TINY")
    assert "\n" not in str(error.value)


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("histoboost.errors.find_spec", lambda name: None)
    with pytest.raises(HistoboostError, match=r"backbone uni: .*histoboost\[timm\]"):
        load_backbone("uni", "random")


def test_an_embedding_is_named_after_the_short_name_if_that_was_given(
    tiny: FoundationModel, tmp_path: Path, noise_slide: Callable[..., Slide]
):
    options = {"patch": 24, "layers": "default", "weights": "random", "engine": "torch"}
    data = Dataset(tmp_path, [noise_slide(spots=2)])
    for name in ("Tiny", "hf-hub:me/tiny"):
        with pytest.warns(HistoboostWarning):
            featurize(data, tmp_path / "store.zarr", backbone=name, **options)
    found = EmbeddingStore(tmp_path / "store.zarr").embeddings("S")
    assert set(found) == {"tiny@24", "hf-hub-me-Tiny@24"}
    (recipe,) = set(found.values())
    assert recipe.fields["backbone"] == "hf-hub:me/Tiny"
    assert recipe.fields["resize"] == "bicubic-antialias-uint8"


@pytest.mark.parametrize(
    ("backbone", "patch_px", "um_per_px", "message"),
    [
        ("uni", 224, 4.0, "would see 4 um per pixel where it expects 0.5"),
        ("hf-hub:MahmoodLab/UNI", 16, 0.5, "--patch 112um"),
        ("uni", 28, 4.0, "lack the detail"),
        ("uni", 224, None, "scale is unknown"),
        ("virchow2", 224, 8.0, "expects 0.25, 0.5, 1 or 2; --patch 448um"),
        *(("uni", 224, 0.5, None), ("uni", 200, 0.5, None), ("resnet18", 224, 4.0, None)),
        ("hf-hub:paige-ai/Virchow2", 224, 2.0, None),
    ],
)
def test_a_slide_far_from_a_models_magnification_is_named(
    backbone: str, patch_px: int, um_per_px: float | None, message: str | None, recwarn
):
    pathology.warn_if_far(backbone, 224, patch_px, um_per_px, "S_1")
    heard = [str(one.message) for one in recwarn]
    assert len(heard) == (message is not None)
    assert all(message in line for line in heard)
