"""Sides of patches, in pixels (``64``) or in micrometres (``55um``)."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from histoboost.errors import BadInput, warn
from histoboost.slides.length import Length, parse_length
from histoboost.slides.slide import Slide

#: Largest patch in units of the slide's longer side: beyond, it shows mirror images only.
LARGEST = 2


class PatchSize(Length):
    """The side of a patch, in whole pixels or in micrometres."""

    def pixels(self, slide: Slide) -> int:
        """Side in whole pixels of a slide, whose scale must be known if it is in micrometres."""
        px = round(self.on(slide, "--patch"))
        if px < 1:
            raise BadInput(
                f"slide {slide.name}: {self} is less than one of its pixels of "
                f"{slide.um_per_px:.3g} um; give a larger --patch"
            )
        return px

    def recipe(self, slide: Slide) -> dict[str, Any]:
        """Fields of a recipe; pixels of a size in um, which differ by slide, are kept apart."""
        if self.unit == "px":
            return {"patch_px": int(self.amount)}
        return {
            "patch_um": self.amount,
            "slide_scale": {"patch_px": self.pixels(slide), "um_per_px": slide.um_per_px},
        }


#: One side as users give it.
Patch = int | str | PatchSize


def parse_sizes(patch: Patch | Iterable[Patch], slides: Iterable[Slide]) -> list[PatchSize]:
    """Parse patch sizes, without repeats, and check them against the slides.

    ``64`` or ``"64"`` is in pixels, ``"55um"`` in micrometres, ``"32,64"`` are several. Sizes that
    are equal on a slide, or far larger than it, are refused; sizes in pixels on slides of different
    scale are warned of.
    """
    given = [patch] if isinstance(patch, int | Integral | str | PatchSize) else patch
    parts = [p for one in given for p in (one.split(",") if isinstance(one, str) else [one])]
    sizes = list(dict.fromkeys(_parse(part) for part in parts))
    scales: dict[float, str] = {}
    for slide in slides:
        if slide.um_per_px is not None:
            scales[slide.um_per_px] = slide.name
        _check_sizes(sizes, slide)
    in_px = next((size for size in sizes if size.unit == "px"), None)
    if in_px is not None and scales and max(scales) > 1.1 * min(scales):
        low, high = min(scales), max(scales)
        warn(
            f"--patch {in_px}: {in_px.amount * low:.3g} um on slide {scales[low]} but "
            f"{in_px.amount * high:.3g} um on slide {scales[high]}; give --patch in um for the "
            "same field of view on each"
        )
    return sizes


def _check_sizes(sizes: Iterable[PatchSize], slide: Slide) -> None:
    height, width = slide.image.shape
    seen: dict[int, PatchSize] = {}
    for size in sizes:
        px = size.pixels(slide)
        if px in seen:
            raise BadInput(
                f"slide {slide.name}: --patch {seen[px]} and {size} are both {px} px; "
                "give one of them"
            )
        seen[px] = size
        if px <= LARGEST * max(height, width):
            continue
        extent = f"{px} px, the slide only {width} x {height}"
        if slide.lattice is None:
            raise BadInput(
                f"slide {slide.name}: --patch {size} is {extent}; give a smaller --patch"
            )
        warn(
            f"slide {slide.name}: patches of {size} are {extent}: beyond its edges they show it "
            "mirrored, again and again"
        )


def _parse(one: Patch) -> PatchSize:
    if isinstance(one, PatchSize):
        return one
    length = parse_length(one)
    if length is None or not (length.unit == "um" or length.amount.is_integer()):
        raise BadInput(
            f"--patch: {one} is no size; give whole pixels such as 64, or micrometres such as 55um"
        )
    return PatchSize(length.amount, length.unit)
