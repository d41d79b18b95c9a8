"""The recipe of an embedding: what changes its numbers, read off the run that computes it."""

from __future__ import annotations

from dataclasses import asdict

from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_array
from histoboost.featurize.backbones.base import Facts
from histoboost.featurize.level import BORDER, RESIZE, Window
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.stain import RECIPES as STAIN_RECIPES
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.slide import Slide


def recipe(
    net: Facts,
    side: PatchSize,
    slide: Slide,
    pixels_digest: str,
    alignment: Alignment,
    *,
    window: Window | None = None,
    layer: str = "default",
    stain: str = "none",
    views: int = 1,
    precision: str = "fp32",
) -> Recipe:
    """Everything that changes the numbers of an embedding, and nothing else.

    Engine, device and batch size are left out: they change no number beyond its last bits.
    """
    fields = {
        "format": 1,
        "slide_pixels": pixels_digest,
        "spots": digest_array(slide.xy),
        "alignment": asdict(alignment.transform) if alignment.changes else "none",
        "backbone": net.name,
        "layer": net.layer if layer == "default" else layer,
        "weights": net.weights_digest,
        **side.recipe(slide),
        **(window.recipe() if window else {}),
        # A network without a size of its own takes the patch as it is.
        "input_px": net.input_px or ("patch" if side.unit == "um" else side.pixels(slide)),
        "resize": RESIZE[net.interpolation],
        "border": BORDER,
        "normalisation": {"mean": list(net.mean), "std": list(net.std)},
        "stain": STAIN_RECIPES[stain],
        "views": views,
        "precision": precision,
        "dtype": "float16",
    }
    if slide.turn is not None:
        fields["slide_turn"] = slide.turn
    if (slide.source or slide).um_per_px != slide.um_per_px:  # patches were cut there
        fields["slide_scale"] = {
            **side.recipe(slide).get("slide_scale", {}),
            "um_per_px": slide.um_per_px,
        }
    # Not for the numbers, which the weights' digest covers: `evaluate` must know.
    return Recipe({**fields, "tuned_on": list(net.tuned_on)} if net.tuned_on else fields)
