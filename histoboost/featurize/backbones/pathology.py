"""Pathology foundation models by name, and warnings where a slide is not what one expects.

None is downloaded unless it is asked for by its name; most are gated, so that their licence must
be accepted on huggingface.co first.
"""

from __future__ import annotations

from histoboost.errors import warn
from histoboost.featurize.backbones.foundation_model import FoundationModel
from histoboost.featurize.backbones.pathology_models import VISION
from histoboost.featurize.backbones.vision_language import VISION_LANGUAGE

#: All of them.
MODELS = (*VISION, *VISION_LANGUAGE)

#: A patch may be seen this many times coarser or finer than a model expects before it is named.
TOLERANCE = 2.0

#: Parameters, in millions, up to which a model is quick enough for a CPU.
CPU_SIZE = 100


def foundation_model(name: str) -> FoundationModel | None:
    """The model that `name` means, in whatever case; None for other backbones.

    Takes the model's name, its other short names, and its repository behind ``hf-hub:``.
    """
    asked = name.lower()
    for model in MODELS:
        if asked in (model.short, model.backbone.lower(), *model.also):
            return model
    return None


def canonical_name(name: str) -> str:
    """What recipes call `name`: for a pathology model its repository, as its authors write it."""
    model = foundation_model(name)
    return model.backbone if model else name


def embedding_label(name: str) -> str:
    """What embeddings are called after, by default: a pathology model's short name, if so asked."""
    model = foundation_model(name)
    return model.short if model and not name.lower().startswith("hf-hub:") else canonical_name(name)


def advice() -> dict[str, str]:
    """What to choose for a CPU, a GPU and a commercial use, from the table."""
    small = [model for model in MODELS if model.parameters <= CPU_SIZE]
    free = [model.short for model in MODELS if model.commercial]
    quick = [model.short for model in small if model.commercial]
    return {
        "a CPU": f"h0-mini first ({_of('h0-mini').parameters} M parameters, non-commercial), "
        f"{' or '.join(quick)} where the use is commercial",
        "a GPU": "h-optimus-0 first (HEST-Bench: .415, ResNet-50 .326), "
        "then uni2-h, virchow2 or h-optimus-1 (non-commercial)",
        "a commercial use": f"{', '.join(free)}; read the licence all the same",
    }


def _of(name: str) -> FoundationModel:
    return next(model for model in MODELS if model.short == name)


def warn_if_far(
    backbone: str, input_px: int | None, patch_px: int, um_per_px: float | None, slide: str
) -> None:
    """Warn where a foundation model would see a slide much coarser or finer than it was trained on.

    `input_px` is the side that patches of `patch_px` are resized to.
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
    expected = model.nearest(seen)
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
    """Its resolutions: ``0.5``, or ``0.25, 0.5, 1 or 2``."""
    *others, last = (f"{um:g}" for um in model.um_per_px)
    return f"{', '.join(others)} or {last}" if others else last
