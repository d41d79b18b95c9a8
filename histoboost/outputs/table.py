"""Predictions as CSV, in the challenge's layout."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoboost.io import write_text

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction


def write_submission(
    path: Path, cell_types: Sequence[str], predictions: Sequence[Prediction]
) -> None:
    """Write ``ID,<types>``: IDs count from 0 through the slides in order, no row left out.

    Bounds of intervals follow as ``<type>_lower`` and ``<type>_upper``. Numbers keep seven
    significant digits. The file appears whole or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    cell_types : sequence of str
        T names.
    predictions : sequence of Prediction
        Values (N, T) of one or more slides, all finite.
    """
    columns = list(cell_types)
    values = np.concatenate([each.values for each in predictions])
    bounds = [
        np.stack([each.low, each.high], axis=2)
        for each in predictions
        if each.low is not None and each.high is not None
    ]
    if bounds:
        columns += [f"{name}_{end}" for name in cell_types for end in ("lower", "upper")]
        pairs = np.concatenate(bounds)
        values = np.concatenate([values, pairs.reshape(len(pairs), -1)], axis=1)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["ID", *columns])
    writer.writerows([at, *(f"{v:.7g}" for v in row)] for at, row in enumerate(values))
    text = buffer.getvalue()
    write_text(path, text)
