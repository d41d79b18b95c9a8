"""Predictions to a file: the suffix says in which format."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from histoboost.errors import BadInput, require
from histoboost.io import check_output
from histoboost.outputs.anndata import prediction_anndata, write_anndata
from histoboost.outputs.geojson import write_geojson
from histoboost.outputs.map_page import write_map_page
from histoboost.outputs.ome_tiff import write_ome_tiff
from histoboost.outputs.picture import write_picture
from histoboost.outputs.spatialdata import write_spatialdata
from histoboost.outputs.table import write_spot_table, write_submission

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

#: Formats of a file, and what each needs besides the core: a package and the extra that brings it.
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
#: Written by a function of one slide, in whose pixels they are.
_ONE_SLIDE: dict[str, Callable[[Path, Prediction], None]] = {
    ".geojson": write_geojson,
    ".ome.tif": write_ome_tiff,
    ".png": write_picture,
}
SLIDE = "{slide}"
#: Formats in which nothing stands for the bounds of intervals.
WITHOUT_BOUNDS = (".ome.tif", ".png", ".html")


def check_prediction_output(path: Path, slides: Sequence[str] = ()) -> None:
    """Refuse, before the work, a file that cannot be written, or not for these slides.

    For `path` see `write_predictions`; `slides` are those to be predicted, where they are known.
    """
    check_output(path, tuple(SUFFIXES))
    suffix = _suffix(path)
    if odd := set(re.findall(r"{[a-zA-Z_]*}", str(path))) - {SLIDE}:
        raise BadInput(f"{path}: nothing stands for {odd.pop()}; write {SLIDE}, or a plain name")
    if needed := SUFFIXES[suffix]:
        require(str(path), *needed)
    if suffix in _ONE_SLIDE and len(slides) > 1 and SLIDE not in path.name:
        raise BadInput(
            f"{path}: {suffix} holds one slide, and there are {len(slides)}; put {SLIDE} into the "
            f"name, such as {path.with_name(f'{SLIDE}_{path.name}')}"
        )
    for slide in slides:
        check_output(file_of(path, slide))


def write_predictions(
    path: str | Path, predictions: Sequence[Prediction], *, submission: bool = False
) -> list[Path]:
    """Write predictions, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The suffix says the format, see below. With ``{slide}`` in its name each slide gets a file
        of its own, with the slide's name there.
    predictions : sequence of Prediction
        Of one or more slides, by one model.
    submission : bool
        Write a ``.csv`` in the challenge's layout, ``ID,<types>``, rows in order.

    Returns
    -------
    list of Path
        The file of each slide, in order.

    Notes
    -----
    ``.csv``, ``.parquet``
        Slide, spot, x, y (pixels), the types, their bounds and novelty; one row per spot.
    ``.h5ad``
        AnnData, see `prediction_anndata`.
    ``.zarr``
        SpatialData with the same table and, for every slide, circles and a small image; see
        `write_spatialdata`.
    ``.geojson``
        Objects for QuPath, one slide a file; see `write_geojson`.
    ``.ome.tif``
        A channel for each cell type, one slide a file; see `write_ome_tiff`.
    ``.png``
        The slide under a map of each cell type, one slide a file; see `map_figure`.
    ``.html``
        A map for the browser; see `write_map_page`.

    Raises
    ------
    HistoboostError
        As `check_prediction_output`, or if the system refuses.
    """
    path = Path(path)
    check_prediction_output(path, [each.slide for each in predictions])
    files = [file_of(path, each.slide) for each in predictions]
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
        write_spot_table(path, predictions)
    elif suffix == ".h5ad":
        write_anndata(prediction_anndata(predictions), path)
    else:
        spots = [each.spots for each in predictions]
        write_spatialdata(path, prediction_anndata(predictions), spots)


def _suffix(path: Path) -> str:
    return next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))


def file_of(path: Path, slide: str) -> Path:
    """The file of a slide: `SLIDE` in the name of `path` stands for the slide's."""
    return path.with_name(path.name.replace(SLIDE, slide))
