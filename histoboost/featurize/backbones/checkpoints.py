"""Rename the published weights of pathology models for timm's vision transformer.

Only tensors are taken from huggingface.co; no code from there is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Names in the DINOv2 of transformers, and in timm.
_DINOV2 = {
    r"embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.register_tokens": "register_tokens",
    r"embeddings\.mask_token": "mask_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"^layernorm\.": "norm.",
    r"encoder\.layer\.": "blocks.",
    r"attention\.output\.dense": "attn.proj",
    r"layer_scale([12])\.lambda1": r"ls\1.gamma",
    r"mlp\.weights_in": "mlp.fc1",
    r"mlp\.weights_out": "mlp.fc2",
}


def for_timm(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of timm, DINOv2, transformers, CONCH or KEEP for `module`.

    `module` is a transformer of timm, or a pooling around one.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    network = getattr(module, "network", module)
    plain = dict(state)
    around: dict[str, Tensor] = {}
    smooth = True  # timm resizes position embeddings antialiased, transformers does not
    if "embeddings.position_embeddings" in plain:
        plain, smooth = _from_transformers(plain), False
    elif network is not module:
        plain, around = _split(plain, module)
    if not isinstance(getattr(network, "pos_embed", None), Tensor) or "pos_embed" not in plain:
        return plain  # `fit_weights` will refuse it
    try:
        renamed = checkpoint_filter_fn(plain, network, antialias=smooth)
    except RuntimeError:  # positions form no square, as with another number of registers
        return plain
    if (patches := plain.get("patch_embed.proj.weight")) is not None and patches.ndim == 4:
        renamed["patch_embed.proj.weight"] = patches  # not resampled: another size is another model
    if network is module:
        return dict(renamed)
    return {**{f"network.{name}": value for name, value in renamed.items()}, **around}


def _split(
    state: Mapping[str, Tensor], module: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split weights into those of the transformer and of the pooling; drop the text model."""
    if any(name.startswith("visual.trunk.") for name in state):  # CONCH
        state = {name.removeprefix("visual."): value for name, value in state.items()}
    own = {name.split(".")[0] for name, _ in module.named_parameters()} - {"network"}
    around = {name: value for name, value in state.items() if name.split(".")[0] in own}
    inside = {}
    for prefix in ("trunk.", "visual.", "network.", ""):
        inside = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix) and name not in around and not name.startswith("head.")
        }
        if "pos_embed" in inside:
            break
    # KEEP names the layer scale `weight`.
    inside = {re.sub(r"\.(ls[12])\.weight$", r".\1.gamma", n): v for n, v in inside.items()}
    return inside, around


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the DINOv2 of transformers, with or without registers; join queries, keys, values."""
    renamed = {}
    for name, value in state.items():
        part = re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(\w+)", name)
        if part is None:
            for theirs, ours in _DINOV2.items():
                name = re.sub(theirs, ours, name)
            renamed[name] = value
        elif part[2] == "query":
            parts = [state[name.replace("query", each)] for each in ("query", "key", "value")]
            renamed[f"blocks.{part[1]}.attn.qkv.{part[3]}"] = torch.cat(parts)
    return renamed
