"""What is in a dataset, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from histoboost.errors import HistoboostError
from histoboost.slides.align.estimate import align, misalignment
from histoboost.slides.checks import Problem, implausible_spots, spot_problems
from histoboost.slides.slide import Dataset, Slide
from histoboost.spots import spot_pitch

#: Problems under which nothing can be said about where the spots belong.
NO_POSITION = ("no-spots", "coordinates", "corner", "pitch", "pixels", "flat-image")


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
        doubts = implausible_spots(slide)
        found = [*spot_problems(slide), *doubts, *_image_problems(slide), *_label_problems(slide)]
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
