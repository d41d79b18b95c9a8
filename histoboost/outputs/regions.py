"""Mean prediction of every cell type in the regions drawn on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from histoboost.errors import warn
from histoboost.outputs.table import check_table, write_table
from histoboost.slides.regions import check_on_slide, read_regions

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.slides.slide import Slide


def regions_path(output: Path) -> Path:
    """Where the table of regions goes: ``slide.regions.csv`` beside ``slide.png``.

    It is ``regions.csv`` beside ``{slide}.png``, for all slides are in it.
    """
    stem = output.stem.removesuffix(".ome")
    return output.with_name("regions.csv" if "{slide}" in output.name else f"{stem}.regions.csv")


def region_means(predictions: Sequence[Prediction], regions: str | Path) -> pd.DataFrame:
    """Mean prediction per region and slide.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of one or more slides, by one model.
    regions : str or Path
        GeoJSON in pixels of the slide, as QuPath exports annotations; ``{slide}`` in the path
        stands for the slide's name.

    Returns
    -------
    DataFrame
        One row per slide and region: region, class, slide, spots (how many centres lie in it),
        area_mm2 (NaN where the um per pixel are unknown), and the mean over these spots of every
        other column of `Prediction.to_frame`. Means over no spot are NaN.

    Raises
    ------
    HistoboostError
        If a file of regions cannot be read.

    Warns
    -----
    HistoboostWarning
        If no spot of a slide lies in any of its regions.
    """
    return pd.concat([_of_slide(each, regions) for each in predictions], ignore_index=True)


def check_regions(path: Path, regions: str | Path, slides: Sequence[Slide]) -> None:
    """Refuse, before the work, regions that cannot be read, or a table that cannot be written.

    And those that lie beside the slide, see `check_on_slide`.
    """
    check_table(path)
    for slide in slides:
        drawn = regions_of(slide.name, regions)
        found = read_regions(drawn)
        check_on_slide(drawn, found, slide)


def write_regions(path: Path, predictions: Sequence[Prediction], regions: str | Path) -> None:
    """Write `region_means` as CSV or Parquet."""
    write_table(path, region_means(predictions, regions))


def regions_of(slide: str, regions: str | Path) -> Path:
    """The file of a slide's regions: ``{slide}`` in `regions` stands for its name."""
    return Path(str(regions).replace("{slide}", slide))


def _of_slide(prediction: Prediction, regions: str | Path) -> pd.DataFrame:
    spots, path = prediction.spots, regions_of(prediction.slide, regions)
    found = read_regions(path)
    inside = np.array([region.contains(spots.xy) for region in found])
    counts = inside.sum(axis=1)
    if not counts.any():
        warn(f"{path}: no spot of slide {prediction.slide} lies in a region; was it drawn on it?")
    facts = pd.DataFrame(
        {
            "region": [region.name for region in found],
            "class": [region.label for region in found],
            "slide": prediction.slide,
            "spots": counts,
            "area_mm2": np.array([region.area for region in found]) * _mm2(spots.um_per_px),
        }
    )
    values = prediction.numbers()
    with np.errstate(invalid="ignore"):
        means = (inside @ values.to_numpy(dtype=np.float64)) / counts[:, None]
    # Not one dict: a cell type may be called "class".
    return pd.concat([facts, pd.DataFrame(means, columns=values.columns)], axis=1)


def _mm2(um_per_px: float | None) -> float:
    """Of one square pixel; NaN where it is not known."""
    return np.nan if um_per_px is None else (um_per_px / 1000) ** 2
