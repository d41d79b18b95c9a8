"""Average predictions in regions drawn on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from histoboost.errors import warn
from histoboost.outputs.table import check_table
from histoboost.slides.regions import check_on_slide, read_regions

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.slides.slide import Slide


def regions_path(output: Path) -> Path:
    """Path of the table of regions: ``slide.regions.csv`` next to ``slide.png``.

    It is ``regions.csv`` next to ``{slide}.png``, because it contains all slides.
    """
    stem = output.stem.removesuffix(".ome")
    return output.with_name("regions.csv" if "{slide}" in output.name else f"{stem}.regions.csv")


def region_means(predictions: Sequence[Prediction], regions: str | Path) -> pd.DataFrame:
    """Average predictions over the spots in each region.

    Parameters
    ----------
    predictions : sequence of Prediction
        Predictions of one model for one or more slides.
    regions : str or Path
        GeoJSON in pixels of the slide, as exported by QuPath; ``{slide}`` in the path is replaced
        by the name of the slide.

    Returns
    -------
    DataFrame
        One row per slide and region: region, class, slide, spots (number of spot centres inside),
        area_mm2 (NaN if the micrometres per pixel are unknown), and the mean over these spots of
        each column of values in `Prediction.to_frame` (NaN without spots).

    Raises
    ------
    HistoboostError
        If a file of regions cannot be read.

    Warns
    -----
    HistoboostWarning
        If no spot of a slide is inside any of its regions.
    """
    return pd.concat([_slide_means(each, regions) for each in predictions], ignore_index=True)


def check_regions(path: Path, regions: str | Path, slides: Sequence[Slide]) -> None:
    """Refuse regions that are unreadable or outside the slide, and an unwritable table."""
    check_table(path)
    for slide in slides:
        drawn = regions_file(slide.name, regions)
        found = read_regions(drawn)
        check_on_slide(drawn, found, slide)


def regions_file(slide: str, regions: str | Path) -> Path:
    """Replace ``{slide}`` in `regions` by the name of the slide."""
    return Path(str(regions).replace("{slide}", slide))


def _slide_means(prediction: Prediction, regions: str | Path) -> pd.DataFrame:
    spots, path = prediction.spots, regions_file(prediction.slide, regions)
    found = read_regions(path)
    inside = np.array([region.contains(spots.xy) for region in found])
    counts = inside.sum(axis=1)
    if not counts.any():
        warn(
            f"{path}: no spot of slide {prediction.slide} is inside a region; check that the "
            "regions were drawn on this slide"
        )
    mm_per_px = np.nan if spots.um_per_px is None else spots.um_per_px / 1000
    facts = pd.DataFrame(
        {
            "region": [region.name for region in found],
            "class": [region.label for region in found],
            "slide": prediction.slide,
            "spots": counts,
            "area_mm2": np.array([region.area for region in found]) * mm_per_px**2,
        }
    )
    values = prediction.numbers()
    with np.errstate(invalid="ignore"):
        means = (inside @ values.to_numpy(dtype=np.float64)) / counts[:, None]
    # Not one dict, because a cell type may be named "class".
    return pd.concat([facts, pd.DataFrame(means, columns=values.columns)], axis=1)
