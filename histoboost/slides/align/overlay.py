"""Overlays of the spots on a slide, before and after alignment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from histoboost.io import write_whole
from histoboost.slides.align.apply import move_spots
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.slide import Slide
from histoboost.slides.thumbnail import thumbnail
from histoboost.spots import SPOT_SHARE, spot_pitch


def write_overlay(slide: Slide, alignment: Alignment, folder: str | Path) -> Path:
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
    path = Path(folder) / f"{slide.name}_alignment.png"  # never the image of the slide itself
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: figure.savefig(target, dpi=100))
    return path
