"""Spots that cannot be used, and spots that cannot be where they are; no pixels are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoboost.errors import BadInput
from histoboost.slides.slide import Slide
from histoboost.spots import spot_pitch

#: Spots that all lie within this share of width and height, at the upper left, are of other units.
CORNER = 0.35

#: No lattice of spots on a usable image has a pitch of fewer pixels.
MIN_PITCH = 4.0

#: Of fewer spots nothing can be said.
MIN_SPOTS = 20


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a slide: a word for programs, a line for people with the remedy."""

    slide: str
    kind: str
    message: str


def spot_problems(slide: Slide) -> list[Problem]:
    """What keeps the spots of a slide from being used; looks at no pixels."""
    found = []

    def add(kind: str, message: str) -> None:
        found.append(Problem(slide.name, kind, message))

    height, width = slide.image.shape
    x, y = slide.xy[:, 0], slide.xy[:, 1]
    if len(slide.xy) == 0:
        add("no-spots", "there are no spots; remove the slide or fill its spot table")
    bad = np.asarray(~np.isfinite(slide.xy).all(axis=1))
    if bad.any():
        add(
            "coordinates",
            f"{bad.sum()} of {len(bad)} spots have coordinates that are not finite "
            f"(first: spot {slide.spot_ids[int(bad.argmax())]}); remove these spots",
        )
    with np.errstate(invalid="ignore"):
        outside = ~bad & ((x < 0) | (y < 0) | (x > width) | (y > height))
    if outside.any():
        first = int(outside.argmax())
        swapped = not ((y < 0) | (x < 0) | (y > width) | (x > height))[~bad].any()
        add(
            "outside",
            f"{outside.sum()} of {len(bad)} spots lie outside the image of {width} x {height} px "
            f"(first: spot {slide.spot_ids[first]} at x = {x[first]:g}, y = {y[first]:g}); "
            + ("x and y may be swapped" if swapped else "check that x and y are in its pixels"),
        )
    if slide.abundance is not None:
        odd = ~np.isfinite(slide.abundance)
        if odd.any():
            name = slide.cell_types[int(odd.any(axis=0).argmax())]
            add(
                "abundance",
                f"{odd.any(axis=1).sum()} spots have abundances that are not finite "
                f"(first in column {name}); remove these spots or fill them in",
            )
    return found


def check_slide(slide: Slide, source: str = "") -> None:
    """Refuse a slide whose spots cannot be used; `source` begins the message."""
    for problem in spot_problems(slide):
        raise BadInput(f"{source}slide {slide.name}: {problem.message}")


def implausible_spots(slide: Slide) -> list[Problem]:
    """Why the spots of a slide are hardly where they are said to be.

    Kinds are ``"same-place"``, ``"corner"`` and ``"pitch"``.
    """
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    if not len(xy):
        return []
    found = []
    places, counts = np.unique(xy, axis=0, return_counts=True)
    if counts.max() > 1:
        x, y = places[counts.argmax()]
        missing = "; missing coordinates read as 0" if x == y == 0 else ""
        message = (
            f"{int(counts[counts > 1].sum())} of {len(xy)} spots lie where another one does "
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
