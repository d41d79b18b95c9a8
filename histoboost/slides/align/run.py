"""Align all slides of a dataset: `histoboost align`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoboost.progress import progress
from histoboost.slides.align import estimate
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.align.overlay import write_overlay
from histoboost.slides.align.table import write_table
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset

if TYPE_CHECKING:
    import pandas as pd


class Alignments(tuple[Alignment, ...]):
    """One `Alignment` per slide."""

    __slots__ = ()

    def __new__(cls, alignments: Iterable[Alignment] = ()) -> Alignments:
        return super().__new__(cls, alignments)

    def to_json(self) -> dict[str, Any]:
        """``{"convention", "slides": [..]}`` with the table, reasons and estimates."""
        rows = [asdict(one) for one in self]
        for row in rows:
            for share in ("tissue_before", "tissue_after"):
                row[share] = None if math.isnan(row[share]) else row[share]
        return {
            "convention": "x' = scale * (x - cx) + cx + dx, y likewise; pixels; "
            "(cx, cy) = (width / 2, height / 2) of the image",
            "slides": rows,
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per slide: shift (pixels), scale, share of spots on tissue, reason."""
        import pandas as pd

        return pd.DataFrame(self.to_json()["slides"])

    def save(self, path: str | Path) -> None:
        """Write the CSV table for `featurize --alignment`."""
        write_table(Path(path), self)

    def __repr__(self) -> str:
        moved = sum(one.changes for one in self)
        return f"<Alignments: {len(self)} slides, {moved} to be moved>"


def align(
    data: Dataset | str | Path,
    format: str | None = None,
    *,
    overlays: str | Path | None = None,
) -> Alignments:
    """Estimate where the spots of every slide belong, from its image alone.

    Parameters
    ----------
    data : Dataset or path
        Slides with spots under the tissue only, as in a Visium table.
    format : str, optional
        Format of `data`; detected by default.
    overlays : path, optional
        Folder for overlays of the spots before and after.

    Returns
    -------
    Alignments

    Raises
    ------
    HistoboostError
        If `data` cannot be read.
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(data, format)
    found = []
    with progress("Aligning", len(dataset.slides), "slides") as advance:
        for slide in dataset.slides:
            found.append(estimate.align(slide))
            if overlays is not None:
                write_overlay(slide, found[-1], overlays)
            advance(1)
    return Alignments(found)
