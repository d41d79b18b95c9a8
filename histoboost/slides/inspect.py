"""What is in a dataset, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from histoboost.errors import BadInput, HistoboostError
from histoboost.slides.align.estimate import align, misalignment
from histoboost.slides.slide import Dataset, Slide
from histoboost.spots import spot_pitch

#: Problems under which nothing can be said about where the spots belong.
NO_POSITION = ("no-spots", "coordinates", "pixels", "flat-image")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a slide.

    Attributes
    ----------
    slide : str
    kind : str
        A word for programs, such as ``"outside"``.
    message : str
        One line for people; names the remedy.
    """

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


def inspect(dataset: Dataset) -> dict[str, Any]:
    """Describe the slides of a dataset and list the problems found; reads every pixel once.

    Returns
    -------
    dict
        ``{"slides": [{"slide", "split", "spots", "labelled", "image_shape", "image_dtype",
        "pitch_px", "um_per_px", "group", "abundance_range"}], "cell_types": [..],
        "problems": [{"slide", "kind", "message"}]}``
    """
    slides, problems = [], []
    for slide in dataset.slides:
        found = [*spot_problems(slide), *_image_problems(slide), *_label_problems(slide)]
        if not any(problem.kind in NO_POSITION for problem in found):
            found += _alignment_problems(slide)
        problems += [asdict(problem) for problem in found]
        pitch = spot_pitch(slide.xy)
        slides.append(
            {
                "slide": slide.name,
                "split": slide.split,
                "spots": len(slide.xy),
                "labelled": slide.labelled,
                "image_shape": [*slide.image.shape, 3],
                "image_dtype": slide.image.source_dtype,
                "pitch_px": None if pitch is None else round(pitch, 3),
                "um_per_px": slide.um_per_px,
                "group": slide.group,
                "abundance_range": _range(slide),
            }
        )
    return {"slides": slides, "cell_types": list(dataset.cell_types), "problems": problems}


def _range(slide: Slide) -> list[float] | None:
    finite = slide.abundance[np.isfinite(slide.abundance)] if slide.abundance is not None else ()
    return [float(np.min(finite)), float(np.max(finite))] if len(finite) else None


def _alignment_problems(slide: Slide) -> list[Problem]:
    message = misalignment(slide, align(slide))
    return [Problem(slide.name, "misaligned", message)] if message else []


def _image_problems(slide: Slide) -> list[Problem]:
    height = slide.image.shape[0]
    low, high = 255, 0
    try:
        for start in range(0, height, slide.image.band_rows):
            rows = slide.image.read_rows(start, min(start + slide.image.band_rows, height))
            low, high = min(low, int(rows.min())), max(high, int(rows.max()))
    except HistoboostError as error:
        return [Problem(slide.name, "pixels", str(error))]
    if high - low <= 2:
        message = f"the image is one flat colour (values {low} to {high} of 0..255)"
        if high <= 2:
            message += "; were 0..1 floats cast to uint8?"
        return [Problem(slide.name, "flat-image", message)]
    return []


def _label_problems(slide: Slide) -> list[Problem]:
    if slide.abundance is None:
        return []
    found = []
    with np.errstate(invalid="ignore"):
        negative = np.asarray((slide.abundance < 0).any(axis=0))
    constant = np.asarray((slide.abundance == slide.abundance[:1]).all(axis=0))
    for kind, columns, what in (
        ("negative", negative, "negative abundances"),
        ("constant", constant & (len(slide.xy) > 1), "one abundance everywhere"),
    ):
        names = [name for name, hit in zip(slide.cell_types, columns, strict=True) if hit]
        if names:
            found.append(Problem(slide.name, kind, f"{what} in {', '.join(names)}"))
    return found
