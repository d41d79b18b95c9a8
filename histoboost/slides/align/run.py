"""Align all slides of a dataset: `histoboost align`."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.io import write_whole
from histoboost.progress import progress
from histoboost.slides.align import estimate
from histoboost.slides.align.apply import move_spots
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.align.table import write_table
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.thumbnail import thumbnail
from histoboost.spots import SPOT_SHARE, spot_pitch

if TYPE_CHECKING:
    import pandas as pd


class Alignments(tuple[Alignment, ...]):
    """One `Alignment` per slide."""

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


def _write_overlay(slide: Slide, alignment: Alignment, folder: str | Path) -> Path:
    """Draw the spots before and after alignment to ``<slide>_alignment.png`` in `folder`."""
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

    picture = thumbnail(slide.image, long_side=900)
    height, width = slide.image.shape
    diameter = SPOT_SHARE * (spot_pitch(slide.xy) or 0.02 * width)
    before, after = (one.xy for one in (slide, move_spots(slide, alignment)))
    titles = ["before", "after" if alignment.changes else "after: unchanged"]
    if not np.isnan(alignment.tissue_before):
        titles[0] += f": {alignment.tissue_before:.0%} of the spots on tissue"
    if alignment.changes:
        titles[1] += (
            f": {alignment.tissue_after:.0%}, dx = {alignment.dx:+.1f}, "
            f"dy = {alignment.dy:+.1f} px, scale = {alignment.scale:.4f}"
        )
    figure = Figure(figsize=(14, 7.2 * height / width + 0.8), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, xy, title in zip(panels, (before, after), titles, strict=True):
        axes.imshow(picture, extent=(0, width, height, 0))
        sizes = np.full(len(xy), diameter)
        axes.add_collection(
            EllipseCollection(
                sizes,
                sizes,
                np.zeros(len(xy)),
                units="xy",
                offsets=xy,
                offset_transform=axes.transData,
                facecolors="none",
                edgecolors="#00c2a8",
                linewidths=1.1,
            )
        )
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_axis_off()
    trust = "confident" if alignment.confident else "not confident"
    figure.suptitle(f"{slide.name}, {trust}: {alignment.reason}", fontsize=12)
    path = Path(folder) / f"{slide.name}_alignment.png"  # never the slide image
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: figure.savefig(target, dpi=100))
    return path


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
                _write_overlay(slide, found[-1], overlays)
            advance(1)
    return Alignments(found)
