"""Look up pathology foundation models, and warn where a slide does not suit one.

A model is downloaded only if it is named; most are gated: their licence must be accepted on
huggingface.co first.
"""

from __future__ import annotations

from histoboost.errors import warn
from histoboost.featurize.backbones.foundation_model import FoundationModel
from histoboost.featurize.backbones.pathology_models import VISION
from histoboost.featurize.backbones.vision_language import VISION_LANGUAGE

MODELS = (*VISION, *VISION_LANGUAGE)

#: Factor between the resolution of a slide and a model's from which on to warn.
TOLERANCE = 2.0

#: Millions of parameters up to which a model is fast enough on a CPU.
CPU_SIZE = 100


def foundation_model(name: str) -> FoundationModel | None:
    """Find a model by name, short name or ``hf-hub:<repository>``, in any case; None for others."""
    lower = name.lower()
    for model in MODELS:
        if lower in (model.short, model.backbone.lower(), *model.also):
            return model
    return None


def canonical_name(name: str) -> str:
    """Name in recipes: for a pathology model its repository, as its authors write it."""
    model = foundation_model(name)
    return model.backbone if model else name


def embedding_label(name: str) -> str:
    """Name in embeddings: a pathology model's short name, unless its repository was given."""
    model = foundation_model(name)
    return model.short if model and not name.lower().startswith("hf-hub:") else canonical_name(name)


def advice() -> dict[str, str]:
    """Recommend models for a CPU, a GPU and commercial use."""
    free = [model for model in MODELS if model.commercial]
    small = [model.short for model in free if model.parameters <= CPU_SIZE]
    return {
        "a CPU": "h0-mini first (86 M parameters, non-commercial), "
        f"{' or '.join(small)} for commercial use",
        "a GPU": "h-optimus-0 first (HEST-Bench: .415, ResNet-50 .326), "
        "then uni2-h, virchow2 or h-optimus-1 (non-commercial)",
        "commercial use": f"{', '.join(model.short for model in free)}; "
        "read the licence in any case",
    }


def warn_if_far(
    backbone: str, input_px: int | None, patch_px: int, um_per_px: float | None, slide: str
) -> None:
    """Warn if a pathology model would see a slide much coarser or finer than in its training.

    Patches of `patch_px` are resized to `input_px`.
    """
    model = foundation_model(backbone)
    if model is None:
        return
    if um_per_px is None:
        warn(
            f"slide {slide}: {model.name} expects {_listed(model)} um per pixel, but the "
            "slide's scale is unknown; give um_per_px in a manifest to have it checked"
        )
        return
    seen = patch_px * um_per_px / (input_px or patch_px)
    expected = min(model.um_per_px, key=lambda own: max(own / seen, seen / own))
    side = model.input_px * expected
    if not 1 / TOLERANCE <= seen / expected <= TOLERANCE:
        warn(
            f"slide {slide}: {model.name} would see {seen:.2g} um per pixel where it expects "
            f"{_listed(model)}; --patch {side:g}um gives it what it was trained on"
        )
    elif um_per_px > TOLERANCE * expected:
        warn(
            f"slide {slide}: has {um_per_px:.2g} um per pixel where {model.name} expects "
            f"{_listed(model)}; patches are enlarged and lack the detail it was trained on, "
            "use a full-resolution image"
        )


def _listed(model: FoundationModel) -> str:
    """Format its resolutions: ``0.5``, or ``0.25, 0.5, 1 or 2``."""
    *others, last = (f"{um:g}" for um in model.um_per_px)
    return f"{', '.join(others)} or {last}" if others else last
