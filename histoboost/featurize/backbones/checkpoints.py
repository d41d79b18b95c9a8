"""Published weights of pathology models, under the names of the networks that take them.

Nothing but tensors is taken from huggingface.co; no code from there is run. Where a model comes
with code of its own, its weights are renamed for timm's vision transformer, which has the same
parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Names in transformers' DINOv2, and in timm.
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
    """`state` under the names of `module`, a transformer of timm or a pooling around one.

    Takes weights as timm, DINOv2, transformers, CONCH and KEEP name them.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    network = getattr(module, "network", module)
    plain = dict(state)
    around: dict[str, Tensor] = {}
    smooth = True  # how timm shrinks position embeddings; transformers does without
    if "embeddings.position_embeddings" in plain:
        plain, smooth = _from_transformers(plain), False
    elif network is not module:
        plain, around = _split(plain, module)
    if not isinstance(getattr(network, "pos_embed", None), Tensor) or "pos_embed" not in plain:
        return plain  # does not fit, which `fit_weights` will say
    try:
        renamed = checkpoint_filter_fn(plain, network, antialias=smooth)
    except RuntimeError:  # positions that lie on no square, as with other registers
        return plain
    if (patches := plain.get("patch_embed.proj.weight")) is not None and patches.ndim == 4:
        renamed["patch_embed.proj.weight"] = patches  # resampled for another model, if it differs
    if network is module:
        return dict(renamed)
    return {**{f"network.{name}": value for name, value in renamed.items()}, **around}


def _split(
    state: Mapping[str, Tensor], module: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What belongs to the transformer inside, and to the pooling around it; text is left out."""
    state = {
        name.removeprefix("visual.") if _of_conch(state) else name: value
        for name, value in state.items()
    }
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
    # KEEP's own code calls this so.
    inside = {re.sub(r"\.(ls[12])\.weight$", r".\1.gamma", n): v for n, v in inside.items()}
    return inside, around


def _of_conch(state: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("visual.trunk.") for name in state)


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 as transformers names it, with or without registers; queries, keys, values joined."""
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
