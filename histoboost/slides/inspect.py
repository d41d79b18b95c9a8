"""Summarise a dataset and list its problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.errors import HistoboostError
from histoboost.slides.align.estimate import align, misalignment
from histoboost.slides.checks import (
    MIN_PITCH,
    Problem,
    implausible_spots,
    spot_problems,
    zero_labels,
)
from histoboost.slides.images.base import bands
from histoboost.slides.readers import open_dataset
from histoboost.slides.scale import PITCH_UM
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.usable_tissue import find_tissue
from histoboost.spots import spot_pitch

if TYPE_CHECKING:
    import pandas as pd

#: Problems that make an estimate of the alignment meaningless.
NO_POSITION = ("no-spots", "coordinates", "corner", "pitch", "pixels", "flat-image")

#: Assumed spots across a slide without spots and of unknown scale, for finding its tissue.
PITCHES_ACROSS = 60


class Inspection(dict[str, Any]):
    """Summary of a dataset: the content of `inspect --json`.

    ``{"slides": [{"slide", "split", "spots", "labelled", "image_shape", "image_dtype", "pitch_px",
    "um_per_px", "group", "abundance_range", "tissue", "cells"}], "cell_types": [..], "problems":
    [{"slide", "kind", "message"}]}``
    """

    def to_frame(self) -> pd.DataFrame:
        """One row per slide: the fields of ``"slides"`` and the number of problems."""
        import pandas as pd

        counts = Counter(problem["slide"] for problem in self["problems"])
        return pd.DataFrame([{**row, "problems": counts[row["slide"]]} for row in self["slides"]])

    def __repr__(self) -> str:
        slides, types, problems = (self[key] for key in ("slides", "cell_types", "problems"))
        spots = sum(row["spots"] for row in slides)
        return (
            f"<Inspection: {len(slides)} slides, {spots:,} spots, {len(types)} cell types, "
            f"{len(problems)} problems>"
        )


def inspect(data: Dataset | str | Path, format: str | None = None) -> Inspection:
    """Summarise the slides of a dataset and list their problems; reads every pixel once.

    Parameters
    ----------
    data : Dataset or path
        Slides, or the path to them.
    format : str, optional
        Format of `data`; detected by default.

    Returns
    -------
    Inspection

    Raises
    ------
    HistoboostError
        If `data` cannot be read.
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(data, format)
    slides, problems = [], []
    for slide in dataset.slides:
        found = [] if slide.plain else [*spot_problems(slide), *implausible_spots(slide)]
        found += [*_image_problems(slide), *_label_problems(slide)]
        tissue = None
        if slide.plain:
            try:
                tissue = _tissue(slide)
            except HistoboostError as error:
                message = str(error).removeprefix(f"slide {slide.name}: ")
                found.append(Problem(slide.name, "tissue", message))
        elif not any(problem.kind in NO_POSITION for problem in found):
            shifted = misalignment(slide, align(slide))
            found += [Problem(slide.name, "misaligned", shifted)] if shifted else []
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
                "tissue": tissue,
                "cells": None if slide.cells is None else len(slide.cells.types),
            }
        )
    types = list(dataset.cell_types)
    return Inspection(slides=slides, cell_types=types, problems=problems)


def _range(slide: Slide) -> list[float] | None:
    finite = slide.abundance[np.isfinite(slide.abundance)] if slide.abundance is not None else ()
    return [float(np.min(finite)), float(np.max(finite))] if len(finite) else None


def _tissue(slide: Slide) -> str:
    """Describe the tissue on which a lattice could be laid."""
    height, width = slide.image.shape
    pitch = PITCH_UM / slide.um_per_px if slide.um_per_px else max(height, width) / PITCHES_ACROSS
    return str(find_tissue(slide.image, max(pitch, MIN_PITCH), slide.name))


def _image_problems(slide: Slide) -> list[Problem]:
    low, high = 255, 0
    try:
        for _, rows in bands(slide.image):
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
    found = zero_labels(slide)
    if found:
        return found
    with np.errstate(invalid="ignore"):
        negative = np.asarray((slide.abundance < 0).any(axis=0))
    constant = np.asarray((slide.abundance == slide.abundance[:1]).all(axis=0))
    for kind, columns, what in (
        ("negative", negative, "negative abundances"),
        ("constant", constant & (len(slide.xy) > 1), "the same abundance in all spots"),
    ):
        names = [name for name, hit in zip(slide.cell_types, columns, strict=True) if hit]
        if names:
            found.append(Problem(slide.name, kind, f"{what} in {', '.join(names)}"))
    return found
