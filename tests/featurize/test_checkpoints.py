"""Published weights, however they are named, give the numbers of their own network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from histoboost.errors import HistoboostError
from histoboost.featurize.backbones import pathology
from histoboost.featurize.backbones.foundation_model import FoundationModel
from histoboost.featurize.backbones.poolings import JointPool, SplitPool
from histoboost.featurize.backbones.timm import listed_architecture
from histoboost.featurize.backbones.weights import fit_weights, read_weights

pytest.importorskip("timm", reason="pip install 'histoboost[timm]'")

#: Fewer and narrower blocks, so that a test takes no time.
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3, "weight_init": "skip"}


def named(name: str) -> FoundationModel:
    model = pathology.foundation_model(name)
    assert model is not None
    return model


def fitted(model: FoundationModel, state: dict[str, torch.Tensor]) -> nn.Module:
    net = listed_architecture(model, **SMALL)
    assert net.convert is not None
    fit_weights(net.module, net.convert(state), head="head", source="file", backbone=model.short)
    return net.module.eval()


@pytest.mark.parametrize(
    ("name", "px", "registers"),
    [
        ("midnight-12k", 224, False),
        ("midnight-12k", 518, False),
        ("phikon-v2", 224, False),
        ("hibou-b", 224, True),
        ("hibou-l", 224, True),
    ],
)
def test_renamed_weights_give_the_numbers_of_transformers(
    name: str, px: int, registers: bool, tmp_path: Path
):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = named(name)
    inner = listed_architecture(model, **SMALL).module
    inner = getattr(inner, "network", inner)
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=inner.embed_dim,
        num_hidden_layers=2,
        num_attention_heads=inner.blocks[0].attn.num_heads,
        patch_size=inner.patch_embed.patch_size[0],
        image_size=px,
        use_swiglu_ffn=name != "phikon-v2",
    )
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}Model")(config).eval()
    for values in theirs.parameters():
        nn.init.normal_(values, std=0.05)
    pixels = torch.randn(2, 3, 224, 224)
    theirs.save_pretrained(tmp_path)
    state = read_weights(tmp_path / "model.safetensors")
    with torch.inference_mode():
        tokens = theirs(pixel_values=pixels).last_hidden_state
        ours = fitted(model, state)(pixels)
    expected = tokens[:, 0]
    if "mean" in model.pooling:
        expected = torch.cat([expected, tokens[:, 1:].mean(1)], 1)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("name", "others"), [("kaiko-s16", "kaiko-s8"), ("lunit-s8", "lunit-s16"), ("uni", "uni2-h")]
)
def test_weights_of_another_patch_size_are_refused(name: str, others: str):
    """timm would resample them, and the numbers would be those of no model."""
    state = listed_architecture(named(others), **SMALL).module.state_dict()
    with pytest.raises(HistoboostError, match=r"does not fit .* give weights of this"):
        fitted(named(name), state)


@pytest.mark.parametrize(
    ("name", "trunk", "pooling", "text"),
    [
        (
            *("conch", "visual.trunk.", "visual."),
            ("text.token_embedding.weight", "visual.proj_contrast", "visual.ln_caption.bias"),
        ),
        ("conch-v1.5", "trunk.", "", ()),
        ("keep", "visual.", "", ("text.pooler.dense.bias", "logit_scale")),
    ],
)
def test_vision_language_weights_give_their_image_encoder(
    name: str, trunk: str, pooling: str, text: tuple[str, ...]
):
    model = named(name)
    state = {}
    for own, value in listed_architecture(model, **SMALL).module.state_dict().items():
        theirs = own.replace("network.", trunk) if own.startswith("network.") else pooling + own
        if name == "keep":
            theirs = theirs.replace(".ls1.gamma", ".ls1.weight")
        state[theirs] = torch.randn_like(value) * 0.05
    module = fitted(model, {**state, **dict.fromkeys(text, torch.zeros(3))})
    torch.testing.assert_close(
        module.network.blocks[1].attn.qkv.weight, state[f"{trunk}blocks.1.attn.qkv.weight"]
    )
    pixels = torch.randn(1, 3, model.input_px, model.input_px)
    with torch.inference_mode():
        assert torch.isfinite(module(pixels)).all()


def test_weights_with_names_of_dinov2_fit():
    """OpenMidnight's: the class token has a position of its own, gates are called w12 and w3."""
    model = named("openmidnight")
    net = listed_architecture(model, **SMALL).module
    state = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): torch.randn_like(value)
        for name, value in net.state_dict().items()
    }
    position, registers = torch.randn(1, 1, 48), state.pop("reg_token")
    grid = state.pop("pos_embed")
    theirs = {
        **state,
        "pos_embed": torch.cat([position, grid], 1),
        "register_tokens": registers,
        "mask_token": torch.zeros(1, 48),
    }
    module = fitted(model, theirs)
    torch.testing.assert_close(module.cls_token, state["cls_token"] + position)
    torch.testing.assert_close(module.pos_embed, grid)
    torch.testing.assert_close(module.blocks[0].mlp.fc1.weight, state["blocks.0.mlp.w12.weight"])


@pytest.mark.parametrize("kind", [JointPool, SplitPool])
def test_attention_pooling_equals_attention_of_pytorch(kind: type[nn.Module]):
    """CONCH with biases, CONCH v1.5 without; keys have another width than the query."""
    torch.manual_seed(0)
    pool, tokens = kind(16, 12, heads=4), torch.randn(2, 5, 12)
    for values in pool.parameters():
        nn.init.normal_(values)
    attention = getattr(pool, "attn", None)
    if attention is None:
        attention = nn.MultiheadAttention(16, 4, bias=False, kdim=12, vdim=12)
        attention.q_proj_weight.data = pool.to_q.weight.data
        attention.k_proj_weight.data, attention.v_proj_weight.data = pool.to_kv.weight.data.chunk(2)
        attention.out_proj.weight.data = pool.to_out.weight.data
    keys = pool.ln_k(tokens).transpose(0, 1)
    query = pool.ln_q(pool.query).unsqueeze(1).expand(-1, 2, -1)
    expected = attention(query, keys, keys, need_weights=False)[0].transpose(0, 1)
    torch.testing.assert_close(pool(tokens), expected)
