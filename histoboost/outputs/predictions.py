"""Predictions to a file: the suffix says in which format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from histoboost.errors import BadInput
from histoboost.io import check_output, write_whole
from histoboost.outputs.export import spots_anndata, write_anndata
from histoboost.outputs.table import write_submission
from histoboost.spots import SpotTable

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

SUFFIXES = (".csv", ".parquet", ".h5ad", ".zarr")


def check_prediction_output(path: Path) -> None:
    """Say before the work that `path` cannot be written.

    Raises
    ------
    HistoboostError
        If its suffix is none of `SUFFIXES`, what the suffix needs is not installed, or the place
        cannot be written to.
    """
    check_output(path, SUFFIXES)
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise BadInput(
                f"{path}: parquet needs pyarrow; pip install 'histoboost[parquet]'"
            ) from error


def write_predictions(
    path: Path,
    cell_types: Sequence[str],
    predictions: Sequence[Prediction],
    spots: Callable[[str], SpotTable],
) -> None:
    """Write predictions.

    Parameters
    ----------
    path : Path
        ``.csv``: the challenge's ``ID,<types>``. ``.parquet``: slide, spot, x, y and the types,
        one row per spot. ``.h5ad`` or ``.zarr``: AnnData with the predictions in
        ``obsm["prediction"]``. Bounds of intervals are further columns, in AnnData
        ``obsm["prediction_lower"]`` and ``obsm["prediction_upper"]``.
    cell_types : sequence of str
        T names.
    predictions : sequence of Prediction
        Of one or more slides.
    spots : callable
        Name of a slide to its spots, such as `EmbeddingStore.spots`; a CSV does without.
    """
    if path.suffix == ".csv":
        write_submission(path, cell_types, predictions)
    elif path.suffix == ".parquet":
        table = pd.concat([each.to_frame() for each in predictions], ignore_index=True)
        write_whole(path, lambda target: table.to_parquet(target, index=False))
    else:
        frames: dict[str, Any] = {
            key: (cell_types, values) for key, values in _parts(predictions).items()
        }
        tables = [spots(each.slide) for each in predictions]
        write_anndata(spots_anndata(tables, {}, frames), path)


def _parts(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Values and bounds of all slides, (N, T) each."""
    parts = {"prediction": np.concatenate([each.values for each in predictions])}
    for key, bounds in (
        ("prediction_lower", [each.low for each in predictions]),
        ("prediction_upper", [each.high for each in predictions]),
    ):
        given = [bound for bound in bounds if bound is not None]
        if len(given) == len(bounds):
            parts[key] = np.concatenate(given)
    return parts
