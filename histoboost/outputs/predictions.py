"""Predictions to a file: the suffix says in which format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoboost.errors import require
from histoboost.io import check_output
from histoboost.outputs.anndata import spots_anndata, write_anndata
from histoboost.outputs.table import write_parquet, write_submission

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

SUFFIXES = (".csv", ".parquet", ".h5ad", ".zarr")


def check_prediction_output(path: Path) -> None:
    """Refuse, before the work, a file that cannot be written.

    Raises
    ------
    HistoboostError
        If its suffix is none of `SUFFIXES`, what the suffix needs is not installed, or the file
        system refuses it.
    """
    check_output(path, SUFFIXES)
    if path.suffix == ".parquet":
        require(str(path), "pyarrow", "parquet")


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions.

    Parameters
    ----------
    path : Path
        ``.csv``: the challenge's ``ID,<types>``. ``.parquet``: slide, spot, x, y and the types,
        one row per spot. ``.h5ad`` or ``.zarr``: AnnData with the predictions in
        ``obsm["prediction"]``. Bounds of intervals are further columns, in AnnData
        ``obsm["prediction_lower"]`` and ``obsm["prediction_upper"]``. Novelty is a column of
        Parquet and of AnnData's ``obs``.
    predictions : sequence of Prediction
        Of one or more slides, by one model.
    """
    if path.suffix == ".csv":
        write_submission(path, predictions)
    elif path.suffix == ".parquet":
        write_parquet(path, predictions)
    else:
        types = predictions[0].cell_types
        frames = {
            f"prediction{suffix}": (types, values) for suffix, values in _parts(predictions).items()
        }
        adata = spots_anndata([each.spots for each in predictions], {}, frames)
        novelty = [each.novelty for each in predictions if each.novelty is not None]
        if novelty:
            adata.obs["novelty"] = np.concatenate(novelty)
        write_anndata(adata, path)


def _parts(predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    """Values and, where there are any, bounds of all slides, (N, T) each."""
    parts = {
        "": [each.values for each in predictions],
        "_lower": [each.low for each in predictions if each.low is not None],
        "_upper": [each.high for each in predictions if each.high is not None],
    }
    return {suffix: np.concatenate(values) for suffix, values in parts.items() if values}
