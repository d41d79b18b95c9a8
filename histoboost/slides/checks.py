"""Checks of spots that need no pixels: unusable spots, and implausible positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoboost.errors import BadInput
from histoboost.slides.slide import Slide
from histoboost.spots import spot_pitch

#: Spots that all lie in this fraction of width and height, at the upper left, have another unit.
CORNER = 0.35

#: Smallest spot pitch on a usable image, in pixels.
MIN_PITCH = 4.0

#: Fewer spots are too few to judge.
MIN_SPOTS = 20


@dataclass(frozen=True)
class Problem:
    """A problem of a slide: a keyword for programs, and a line with the remedy for people."""

    slide: str
    kind: str
    message: str


def spot_problems(slide: Slide, remedy: str = "") -> list[Problem]:
    """Reasons why the spots of a slide cannot be used; `remedy` is for those outside the image."""
    found = []
    height, width = slide.image.shape
    x, y = slide.xy[:, 0], slide.xy[:, 1]
    if len(slide.xy) == 0:
        message = "there are no spots; remove the slide or fill its spot table"
        found.append(Problem(slide.name, "no-spots", message))
    bad = np.asarray(~np.isfinite(slide.xy).all(axis=1))
    if bad.any():
        message = (
            f"{bad.sum()} of {len(bad)} spots have coordinates that are not finite "
            f"(first: spot {slide.spot_ids[int(bad.argmax())]}); remove these spots"
        )
        found.append(Problem(slide.name, "coordinates", message))
    with np.errstate(invalid="ignore"):
        outside = ~bad & ((x < 0) | (y < 0) | (x > width) | (y > height))
    if outside.any():
        first = int(outside.argmax())
        swapped = not ((y < 0) | (x < 0) | (y > width) | (x > height))[~bad].any()
        message = (
            f"{outside.sum()} of {len(bad)} spots lie outside the image of {width} x {height} px "
            f"(first: spot {slide.spot_ids[first]} at x = {x[first]:g}, y = {y[first]:g}); "
            + (
                remedy
                or ("x and y may be swapped" if swapped else "check that x and y are in its pixels")
            )
        )
        found.append(Problem(slide.name, "outside", message))
    if slide.abundance is not None and not np.isfinite(slide.abundance).all():
        odd = ~np.isfinite(slide.abundance)
        message = (
            f"{odd.any(axis=1).sum()} spots have abundances that are not finite (first in column "
            f"{slide.cell_types[int(odd.any(axis=0).argmax())]}); remove these spots or fill them "
            "in"
        )
        found.append(Problem(slide.name, "abundance", message))
    return found


def check_slide(slide: Slide, source: str = "", remedy: str = "") -> None:
    """Raise an error that starts with `source` if the spots of a slide cannot be used.

    `remedy` is that for spots outside the image.
    """
    for problem in spot_problems(slide, remedy):
        raise BadInput(f"{source}slide {slide.name}: {problem.message}")


def zero_labels(slide: Slide) -> list[Problem]:
    """Report a slide with labels that are all 0."""
    if slide.abundance is None or not slide.abundance.size or slide.abundance.any():
        return []
    message = "all its abundances are 0; correct them, or leave the slide without labels"
    return [Problem(slide.name, "all-zero", message)]


def implausible_spots(slide: Slide) -> list[Problem]:
    """Implausible positions: ``"same-place"``, ``"corner"`` or ``"pitch"``."""
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    if not len(xy):
        return []
    found = []
    positions, counts = np.unique(xy, axis=0, return_counts=True)
    if counts.max() > 1:
        x, y = positions[counts.argmax()]
        missing = "; missing coordinates read as 0" if x == y == 0 else ""
        message = (
            f"{int(counts[counts > 1].sum())} of {len(xy)} spots share their position with another "
            f"({counts.max()} at x = {x:g}, y = {y:g}{missing}); correct their coordinates"
        )
        found.append(Problem(slide.name, "same-place", message))
    pitch = spot_pitch(xy)
    if len(xy) < MIN_SPOTS or pitch is None:
        return found
    height, width = slide.image.shape
    x, y = xy.max(axis=0)
    if x < CORNER * width and y < CORNER * height:
        message = (
            f"all spots lie in the upper left corner, x up to {x:g} and y up to {y:g} on an image "
            f"of {width} x {height} px; they may be array indices or pixels of a smaller image: "
            "scale them to this one"
        )
        found.append(Problem(slide.name, "corner", message))
    elif pitch < MIN_PITCH:
        message = (
            f"the spots lie {pitch:.2g} px apart; they may be array indices or pixels of a "
            "smaller image, or the image is too small: give the full-resolution image"
        )
        found.append(Problem(slide.name, "pitch", message))
    return found
