"""Predictions as a table: CSV or Parquet, or CSV in the challenge's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from histoboost.errors import require
from histoboost.io import check_output, write_text, write_whole

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction


def write_submission(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write ``ID,<types>``: IDs count from 0 through the slides in order, no row left out.

    Bounds of intervals follow as ``<type>_lower`` and ``<type>_upper``. Numbers keep seven
    significant digits.
    """
    types = predictions[0].cell_types
    table = _rows(predictions)
    ends = [f"{name}_{end}" for name in types for end in ("lower", "upper")]
    columns = [*types, *(name for name in ends if name in table)]
    numbers = table[columns].rename_axis("ID")
    write_text(path, numbers.to_csv(float_format="%.7g", lineterminator="\n"))


def write_spot_table(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write slide, spot, x, y, the types, their bounds and novelty, one row per spot."""
    write_table(path, _rows(predictions))


def check_table(path: Path) -> None:
    """Refuse, before the work, a file that `write_table` cannot write."""
    check_output(path, (".csv", ".parquet"))
    if path.suffix == ".parquet":
        require(str(path), "pyarrow", "parquet")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the columns of a table; in a ``.csv`` numbers keep seven significant digits."""
    if path.suffix == ".csv":
        write_text(path, table.to_csv(index=False, float_format="%.7g", lineterminator="\n"))
    else:
        write_whole(path, lambda target: table.to_parquet(target, index=False))


def _rows(predictions: Sequence[Prediction]) -> pd.DataFrame:
    return pd.concat([each.to_frame() for each in predictions], ignore_index=True)
