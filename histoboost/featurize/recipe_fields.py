"""Fields of the recipe of an embedding: all settings that change its numbers."""

from __future__ import annotations

from dataclasses import asdict

from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_array
from histoboost.featurize.backbones.base import Facts
from histoboost.featurize.level import Window
from histoboost.featurize.patch_size import PatchSize
from histoboost.featurize.stain import RECIPES as STAIN_RECIPES
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.slide import Slide

#: How patches are mirrored at the border of a slide, and resized.
BORDER = "symmetric"
RESIZE = {name: f"{name}-antialias-uint8" for name in ("bilinear", "bicubic")}


def recipe(
    net: Facts,
    side: PatchSize,
    slide: Slide,
    pixels_digest: str,
    alignment: Alignment,
    window: Window,
    layer: str,
    *,
    stain: str,
    views: int,
    precision: str,
) -> Recipe:
    """Build the recipe of one layer at one patch size.

    Engine, device and batch size are left out: they change last bits at most.
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
        **window.recipe(),
        # A network without an input size takes the patch as it is.
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
    if (slide.source or slide).um_per_px != slide.um_per_px:  # cut at another resolution
        scale = side.recipe(slide).get("slide_scale", {})
        fields["slide_scale"] = {**scale, "um_per_px": slide.um_per_px}
    if net.tuned_on:  # the weights' digest covers the numbers; `evaluate` needs the slides
        fields["tuned_on"] = list(net.tuned_on)
    return Recipe(fields)
