"""Write predictions as CSV or Parquet tables, or in the CSV layout of the challenge."""

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
    """Write ``ID,<types>``: one row per spot, numbered from 0 through all slides in order.

    Interval bounds follow as ``<type>_lower`` and ``<type>_upper``. Numbers have seven significant
    digits.
    """
    types = predictions[0].cell_types
    table = prediction_table(predictions)
    ends = [f"{name}_{end}" for name in types for end in ("lower", "upper")]
    columns = [*types, *(name for name in ends if name in table)]
    numbers = table[columns].rename_axis("ID")
    write_text(path, numbers.to_csv(float_format="%.7g", lineterminator="\n"))


def prediction_table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Tabulate slide, spot, x, y, cell types, intervals and novelty, one row per spot."""
    return pd.concat([each.to_frame() for each in predictions], ignore_index=True)


def check_table(path: Path) -> None:
    """Refuse a file that `write_table` cannot write."""
    check_output(path, (".csv", ".parquet"))
    if path.suffix == ".parquet":
        require(str(path), "pyarrow", "parquet")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, with seven significant digits, or as Parquet."""
    if path.suffix == ".csv":
        write_text(path, table.to_csv(index=False, float_format="%.7g", lineterminator="\n"))
    else:
        write_whole(path, lambda target: table.to_parquet(target, index=False))
