"""Abundances from single cells: the number of cells of each type nearest to each spot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from histoboost.errors import BadInput, warn
from histoboost.slides.slide import Cells, Slide
from histoboost.slides.tables import read_table, read_text_table

#: Column of cell types.
TYPE = "cell_type"


def read_cells(path: Path, um_per_px: float | None) -> Cells:
    """Read a CSV, TSV or Parquet table of single cells, with the column ``cell_type``.

    Coordinates are ``x`` and ``y`` in image pixels, or ``x_um`` and ``y_um``, which need the scale
    of the image.
    """
    # `read_table` would keep the first column as text: spot ids.
    table = read_table(path) if path.suffix == ".parquet" else read_text_table(path)
    unit = "_um" if "x_um" in table and "x" not in table else ""
    for name in (f"x{unit}", f"y{unit}", TYPE):
        if name not in table:
            raise BadInput(
                f"{path}: no column {name!r}; cells have x and y (pixels of the image, or x_um and "
                f"y_um) and {TYPE}"
            )
    if unit and um_per_px is None:
        raise BadInput(
            f"{path}: cells in micrometres on an image of unknown scale; fill in um_per_px"
        )
    try:  # not by pandas, which long exponents crash
        coordinates = table[[f"x{unit}", f"y{unit}"]].to_numpy(np.float64)
    except (TypeError, ValueError):
        coordinates = np.array([np.nan])
    if not np.isfinite(coordinates).all():
        raise BadInput(f"{path}: coordinates are missing or not numeric; fill them in")
    if not len(table):
        raise BadInput(f"{path}: no cells; check that it is complete")
    xy = coordinates / (um_per_px if unit and um_per_px else 1.0)
    types = table[TYPE].fillna("").astype(str).to_numpy(object)
    if without := int((types == "").sum()):
        warn(f"{path}: {without:,} of {len(types):,} cells have no {TYPE} and are not counted")
    return Cells(xy[types != ""], types[types != ""])


def count_cells(slide: Slide, pitch_px: float) -> Slide:
    """Count the cells of a slide at their nearest spot within half a pitch and a corner.

    Spots without cells are unknown and left out.
    """
    from scipy.spatial import cKDTree

    cells = slide.cells
    if cells is None:
        return slide
    reach = pitch_px / np.sqrt(3) * (1 + 1e-9)  # the corner of a hexagon around a spot
    distance, spot = cKDTree(slide.xy).query(cells.xy, distance_upper_bound=reach)
    number = {name: index for index, name in enumerate(slide.cell_types)}
    kind = np.array([number[name] for name in cells.types], np.intp)
    near = np.isfinite(distance)
    counts = np.zeros((len(slide.xy), len(slide.cell_types)), np.float32)
    np.add.at(counts, (spot[near], kind[near]), 1)
    filled = np.asarray(counts.any(axis=1))
    if not filled.any():
        raise BadInput(
            f"slide {slide.name}: none of its {len(kind):,} cells lies at a spot; check that x and "
            "y are in pixels of the image"
        )
    if near.mean() < 0.5:
        warn(
            f"slide {slide.name}: {1 - near.mean():.0%} of its {len(kind):,} cells lie off its "
            "spots; check that x and y are in pixels of the image"
        )
    return replace(slide, abundance=counts, cells=None).only(filled)
