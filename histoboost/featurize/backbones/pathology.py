"""Pathology foundation models: what each expects, and what its licence allows.

None is downloaded unless it is asked for by its name; most are gated, so that their licence must
be accepted on huggingface.co first. docs/foundation-models.md says which of the facts were compared
with the model cards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from histoboost.errors import warn

#: A patch may be seen this many times coarser or finer than a model expects before it is named.
TOLERANCE = 2.0


@dataclass(frozen=True)
class FoundationModel:
    """One model, as `histoboost backbones` lists it."""

    title: str
    backbone: str  # what --backbone takes
    licence: str
    gated: bool  # whether huggingface.co asks for an account and the licence's acceptance
    width: int  # of an embedding
    #: Arguments of ``timm.create_model`` that the model card asks for.
    options: Callable[[], dict[str, Any]] = dict
    #: Whether the embedding is the class token joined to the mean of the patch tokens, as its
    #: authors recommend, instead of what the network returns.
    class_and_mean: bool = False
    input_px: int = 224
    um_per_px: float = 0.5  # of the slides it was trained on: 20x


def _vit_with_layer_scale() -> dict[str, Any]:
    return {"init_values": 1e-5, "dynamic_img_size": True}


def _uni2() -> dict[str, Any]:
    from timm.layers import SwiGLUPacked
    from torch import nn

    return {
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True,
        "mlp_layer": SwiGLUPacked,
        "act_layer": nn.SiLU,
        "reg_tokens": 8,
        "dynamic_img_size": True,
    }


def _virchow2() -> dict[str, Any]:
    from timm.layers import SwiGLUPacked
    from torch import nn

    return {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}


def _h_optimus() -> dict[str, Any]:
    return {"init_values": 1e-5, "dynamic_img_size": False}


_NC_ND = "CC-BY-NC-ND-4.0"

MODELS = (
    FoundationModel("UNI", "hf-hub:MahmoodLab/UNI", _NC_ND, True, 1024, _vit_with_layer_scale),
    FoundationModel("UNI2-h", "hf-hub:MahmoodLab/UNI2-h", _NC_ND, True, 1536, _uni2),
    FoundationModel(
        *("Virchow2", "hf-hub:paige-ai/Virchow2", _NC_ND, True, 2560, _virchow2),
        class_and_mean=True,
    ),
    FoundationModel(
        *("H-optimus-0", "hf-hub:bioptimus/H-optimus-0", "Apache-2.0", True, 1536, _h_optimus)
    ),
    FoundationModel(
        *("H-optimus-1", "hf-hub:bioptimus/H-optimus-1", _NC_ND, True, 1536, _h_optimus)
    ),
    FoundationModel(
        "Phikon",
        "hf-hub:1aurent/vit_base_patch16_224.owkin_pancancer",
        "Owkin non-commercial",
        gated=False,
        width=768,
    ),
    # Its loader is a package of its own, so it comes by a factory; see docs/foundation-models.md.
    FoundationModel("CONCH", "my_conch:conch", _NC_ND, True, 512, input_px=448),
)


def foundation_model(backbone: str) -> FoundationModel | None:
    """The foundation model that a backbone's name means, in whatever case; None for others."""
    return next((m for m in MODELS if m.backbone.lower() == backbone.lower()), None)


def warn_if_far(
    backbone: str, input_px: int | None, patch_px: int, um_per_px: float | None, slide: str
) -> None:
    """Warn where a foundation model would see a slide much coarser or finer than it was trained on.

    `input_px` is the side that patches of `patch_px` are resized to.
    """
    model = foundation_model(backbone)
    if model is None:
        return
    side_um = model.input_px * model.um_per_px
    if um_per_px is None:
        warn(
            f"slide {slide}: {model.title} expects {model.um_per_px:g} um per pixel, but the "
            "slide's scale is unknown; give um_per_px in a manifest to have it checked"
        )
        return
    seen = patch_px * um_per_px / (input_px or patch_px)
    if not 1 / TOLERANCE <= seen / model.um_per_px <= TOLERANCE:
        warn(
            f"slide {slide}: {model.title} would see {seen:.2g} um per pixel where it expects "
            f"{model.um_per_px:g}; --patch {side_um:g}um gives it what it was trained on"
        )
    elif um_per_px > TOLERANCE * model.um_per_px:
        warn(
            f"slide {slide}: has {um_per_px:.2g} um per pixel where {model.title} expects "
            f"{model.um_per_px:g}; patches are enlarged and lack the detail it was trained on, "
            "use a full-resolution image"
        )
