"""Manifests: a CSV with one row per slide that names its files.

::

    slide,image,spots,abundances,group,um_per_px
    A,a/he.tif,a/spots.csv,a/weights.csv,patient_1,0.5
    B,b/full.tif,b/outs,b/weights.tsv,patient_2,
    C,c/slide.svs,,,patient_3,

Paths are relative to the manifest. `slide` is required. If `spots` is empty, the slide is an image,
and `featurize --pitch` lays spots on its tissue. Otherwise `spots` is

- a table with the columns ``x`` (column), ``y`` (row) in pixels of the image and a spot id
  (``spot``, ``spot_id``, ``barcode`` or ``id``, else the first column);
- Space Ranger's ``tissue_positions`` file (the image is then the full-resolution one) or its
  ``outs`` folder (the image may be left empty);
- an AnnData, with its own image or the full-resolution `image`, or a SpatialData, with its own
  image or ``images/<name>``; `slide` picks one of several. `abundances` may then be
  ``obsm/<key>`` or ``obs/<pattern>``, in a SpatialData also ``tables/<name>``.

`abundances` is a table indexed by spot id and may be the table of spots itself. `cells` is a table
of single cells to count at the spots instead (``x``, ``y``, ``cell_type``). `split` is optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoboost.errors import BadInput, HistoboostError
from histoboost.slides.cells import count_cells, read_cells
from histoboost.slides.images import open_image
from histoboost.slides.readers import anndata, spaceranger, spatialdata
from histoboost.slides.readers.abundances import (
    check_ids,
    checked_abundances,
    join_abundances,
    read_abundances,
    with_abundances,
)
from histoboost.slides.readers.images import plain_slide
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, LazySlides, Slide
from histoboost.slides.tables import id_column, read_table, read_text_table
from histoboost.spots import spot_pitch

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("slide", "image", "spots", "abundances", "cells", "group", "um_per_px", "split")


def detect(path: Path) -> bool:
    """Whether `path` is a CSV or TSV file."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read(path: Path) -> Dataset:
    """Read the slides of a manifest; errors name the slide."""
    rows = read_text_table(path)
    if "slide" not in rows or not {"spots", "image"} & set(rows):
        missing = "spots" if "slide" in rows else "slide"
        raise BadInput(
            f"{path}: no column {missing!r}; a manifest needs slide, and spots or image, "
            f"comma-separated; it has {', '.join(map(repr, map(str, rows)))}"
        )
    unknown = [str(name) for name in rows if name not in COLUMNS]
    if unknown:
        raise BadInput(
            f"{path}: column {unknown[0]!r} is unknown; a manifest has {', '.join(COLUMNS)}"
        )
    entries = [
        {str(key): value for key, value in row.items() if value} for row in rows.to_dict("records")
    ]
    _check_sections(path, entries)
    names = [entry.get("slide", "?") for entry in entries]
    slides = LazySlides(names, [partial(_read_slide, path, entry) for entry in entries])
    has_cells = any("cells" in entry for entry in entries)
    return Dataset(path, _count_all(slides) if has_cells else slides)


def _read_slide(path: Path, entry: dict[str, str]) -> Slide:
    try:
        return _slide(path.parent, entry)
    except HistoboostError as error:
        name = entry.get("slide", "?")
        message = str(error).removeprefix(f"{name}: ")
        raise BadInput(f"{path}: slide {name}: {message}") from error


def _check_sections(path: Path, entries: Sequence[dict[str, str]]) -> None:
    """Refuse two bin sizes of one section, which would leak into each other's folds."""
    names: dict[Path, str] = {}
    for entry in entries:
        name = entry.get("slide", "?")
        section = spaceranger.section_of(path.parent / entry.get("spots", ""))
        if section is not None and names.setdefault(section, name) != name:
            raise BadInput(
                f"{path}: slides {names[section]} and {name} are one section of Visium HD, "
                f"{section.parent}; keep one bin size"
            )


def _count_all(slides: Sequence[Slide]) -> Sequence[Slide]:
    """Set the cell types of slides with single cells, and count these if there are spots."""
    types = sorted({name for slide in slides if slide.cells for name in set(slide.cells.types)})
    found = []
    for slide in slides:
        if slide.cells is not None:
            slide = replace(slide, cell_types=tuple(types))
            if not slide.plain:
                slide = count_cells(slide, spot_pitch(slide.xy) or np.inf)
        found.append(slide)
    return found


def _slide(folder: Path, row: dict[str, str]) -> Slide:
    if "slide" not in row:
        raise BadInput("column 'slide' is empty; fill it in")
    if "cells" in row and "abundances" in row:
        raise BadInput("columns 'abundances' and 'cells' are both labels; leave one empty")
    spots = folder / row.get("spots", "")
    if not spots.exists():
        raise BadInput(f"{spots}: no such spots; check the path")
    if "spots" not in row:
        if "image" not in row:
            raise BadInput("columns 'spots' and 'image' are empty; name the image, at least")
        if "abundances" in row:
            raise BadInput("column 'abundances' needs 'spots', which is empty; name the spots")
        slide = plain_slide(folder / row["image"], row["slide"])
    elif spots.is_dir() and spaceranger.detect(spots):
        slide = _outs(spots, folder, row)
    elif spatialdata.detect(spots) or anndata.detect(spots):
        slide = _single(spots, folder, row)
    else:
        slide = _table(spots, folder, row)
    um = _um(row) or slide.um_per_px
    return replace(
        slide,
        name=row["slide"],
        group=row.get("group", slide.group),
        split=row.get("split", slide.split),
        um_per_px=um,
        cells=read_cells(folder / row["cells"], um) if "cells" in row else None,
    )


def _um(row: dict[str, str]) -> float | None:
    text = row.get("um_per_px")
    if text is None:
        return None
    try:
        um = float(text)
    except ValueError:
        um = 0.0
    if not 0 < um < float("inf"):
        raise BadInput(f"um_per_px is {text!r}; give micrometres per pixel, such as 0.5")
    return um


def _outs(spots: Path, folder: Path, row: dict[str, str]) -> Slide:
    outs, *others = spaceranger.sample_folders(spots).values()
    if others:
        raise BadInput(f"{spots}: holds several samples; name the outs folder of one")
    return spaceranger.read_outs(
        outs,
        row["slide"],
        image=folder / row["image"] if "image" in row else None,
        abundances=folder / row["abundances"] if "abundances" in row else None,
    )


def _single(spots: Path, folder: Path, row: dict[str, str]) -> Slide:
    """The slide of an AnnData or SpatialData with the name in the row, or the only one."""
    named, image, name = row.get("abundances", ""), row.get("image"), row["slide"]
    inside = named.startswith(("obsm/", "obs/", "tables/"))
    wanted = named if inside else "" if named else None
    if spatialdata.detect(spots):
        slides = spatialdata.read_slides(spots, wanted, image)
    else:
        file = None if image is None else str(folder / image)
        slides = anndata.read_slides(spots, wanted, file, name if file else None)
    if len(slides) > 1:
        slides = [slide for slide in slides if slide.name == name]
    if len(slides) != 1:
        raise BadInput(f"{spots}: has several slides and none is called {name!r}")
    if named and not inside:
        table = read_abundances(folder / named)
        return join_abundances(slides[0], table, f"{slides[0].name}: {named}")
    return slides[0]


def _table(spots: Path, folder: Path, row: dict[str, str]) -> Slide:
    if "image" not in row:
        raise BadInput("column 'image' is empty; name the image of the spots")
    image = open_image(folder / row["image"])
    um = image.um_per_px
    if spots.name.startswith("tissue_positions"):
        table = spaceranger.read_positions(spots)
        table = table[table["in_tissue"] == 1]
        xy = spaceranger.pixels(table)
        scales = spots.parent / spaceranger.SCALES
        if scales.is_file():
            um = um_per_px(spaceranger.read_scales(scales), xy, str(spots), visium=True)
    else:
        table = _read_spots(spots)
        xy = table[["x", "y"]].to_numpy(np.float64)
    slide = Slide(row["slide"], image, xy, tuple(table.index), um_per_px=um)
    if "abundances" not in row:
        return slide
    file = folder / row["abundances"]
    where = f"{slide.name}: {row['abundances']}"
    if file.resolve() == spots.resolve():
        labels = checked_abundances(table.drop(columns=["x", "y"]), str(file))
        return with_abundances(slide, labels, where)
    return join_abundances(slide, read_abundances(file), where)


def _read_spots(path: Path) -> pd.DataFrame:
    table = read_table(path)
    ids = id_column(table, path)
    for name in ("x", "y"):
        if name not in table:
            raise BadInput(f"{path}: no column {name!r}; expected x (column) and y (row) in pixels")
        if table[name].dtype.kind not in "iuf" or table[name].isna().any():
            raise BadInput(
                f"{path}: column {name!r} has values that are missing or not numeric; fill them in"
            )
    table = table.set_index(ids)
    check_ids(table, path)
    return table
