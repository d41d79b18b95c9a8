"""Write predictions to a file in the format of its suffix."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from histoboost.errors import BadInput, require
from histoboost.io import check_output
from histoboost.outputs.anndata import prediction_anndata, write_anndata
from histoboost.outputs.geojson import write_geojson
from histoboost.outputs.map_figure import write_picture
from histoboost.outputs.map_page import write_map_page
from histoboost.outputs.ome_tiff import write_ome_tiff
from histoboost.outputs.spatialdata import write_spatialdata
from histoboost.outputs.table import prediction_table, write_submission, write_table

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

#: File formats, and the package and extra of histoboost that each needs.
SUFFIXES: dict[str, tuple[str, str] | None] = {
    ".csv": None,
    ".parquet": ("pyarrow", "parquet"),
    ".h5ad": None,
    ".zarr": ("spatialdata", "spatialdata"),
    ".geojson": None,
    ".ome.tif": ("tifffile", "wsi"),
    ".png": None,
    ".html": None,
}
#: Formats in pixels of a slide, which hold one slide per file.
_ONE_SLIDE: dict[str, Callable[[Path, Prediction], None]] = {
    ".geojson": write_geojson,
    ".ome.tif": write_ome_tiff,
    ".png": write_picture,
}
SLIDE = "{slide}"
#: Formats that cannot hold prediction intervals.
WITHOUT_BOUNDS = (".ome.tif", ".png", ".html")


def check_prediction_output(path: Path, slides: Sequence[str] = ()) -> None:
    """Refuse a file that `write_predictions` cannot write, or not for these slides."""
    check_output(path, tuple(SUFFIXES))
    suffix = _suffix(path)
    if odd := set(re.findall(r"{[a-zA-Z_]*}", str(path))) - {SLIDE}:
        raise BadInput(f"{path}: unknown field {odd.pop()}; write {SLIDE}, or a plain name")
    if needed := SUFFIXES[suffix]:
        require(str(path), *needed)
    if suffix in _ONE_SLIDE and len(slides) > 1 and SLIDE not in path.name:
        raise BadInput(
            f"{path}: {suffix} holds one slide, and there are {len(slides)}; use {SLIDE} in the "
            f"name, such as {path.with_name(f'{SLIDE}_{path.name}')}"
        )
    for slide in slides:
        check_output(slide_file(path, slide))


def write_predictions(
    path: str | Path, predictions: Sequence[Prediction], *, submission: bool = False
) -> list[Path]:
    """Write predictions to one or more files, each atomically.

    Parameters
    ----------
    path : str or Path
        The suffix sets the format, see below. With ``{slide}`` in its name, one file is written per
        slide.
    predictions : sequence of Prediction
        Predictions of one model for one or more slides.
    submission : bool
        Write a ``.csv`` in the layout of the challenge, ``ID,<types>``, rows in order.

    Returns
    -------
    list of Path
        The file of each slide, in order.

    Notes
    -----
    ``.csv``, ``.parquet``
        One row per spot: slide, spot, x, y (pixels), cell types, intervals and novelty.
    ``.h5ad``
        AnnData, see `prediction_anndata`.
    ``.zarr``
        SpatialData with the same table and, for each slide, circles and a small image; see
        `write_spatialdata`.
    ``.geojson``
        Objects for QuPath, one slide per file; see `write_geojson`.
    ``.ome.tif``
        One channel per cell type, one slide per file; see `write_ome_tiff`.
    ``.png``
        A figure with the slide and a map of each cell type, one slide per file; see `map_figure`.
    ``.html``
        An interactive map; see `write_map_page`.

    Raises
    ------
    HistoboostError
        If the path is unusable (see above) or a file cannot be written.
    """
    path = Path(path)
    check_prediction_output(path, [each.slide for each in predictions])
    files = [slide_file(path, each.slide) for each in predictions]
    for file in dict.fromkeys(files):
        _write(
            file, [p for p, own in zip(predictions, files, strict=True) if own == file], submission
        )
    return files


def _write(path: Path, predictions: Sequence[Prediction], submission: bool) -> None:
    suffix = _suffix(path)
    if suffix in _ONE_SLIDE:
        _ONE_SLIDE[suffix](path, predictions[0])
    elif suffix == ".html":
        write_map_page(path, predictions)
    elif suffix == ".csv" and submission:
        write_submission(path, predictions)
    elif suffix in (".csv", ".parquet"):
        write_table(path, prediction_table(predictions))
    elif suffix == ".h5ad":
        write_anndata(prediction_anndata(predictions), path)
    else:
        spots = [each.spots for each in predictions]
        write_spatialdata(path, prediction_anndata(predictions), spots)


def _suffix(path: Path) -> str:
    return next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))


def slide_file(path: Path, slide: str) -> Path:
    """Replace `SLIDE` in the name of `path` by the name of the slide."""
    return path.with_name(path.name.replace(SLIDE, slide))
