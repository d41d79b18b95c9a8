"""Read and write alignments as an editable CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from histoboost.errors import BadInput
from histoboost.io import write_text
from histoboost.names import nfc
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.tables import read_text_table

#: Columns of the table, in order.
COLUMNS = ("slide", "dx", "dy", "scale", "tissue_before", "tissue_after", "confident")


def write_table(path: Path, alignments: Iterable[Alignment]) -> None:
    """Write alignments as CSV with the columns `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in alignments:
        shares = [
            "" if math.isnan(share) else f"{share:.4f}"
            for share in (one.tissue_before, one.tissue_after)
        ]
        confident = str(one.confident).lower()
        writer.writerow([one.slide, one.dx, one.dy, one.scale, *shares, confident])
    write_text(path, text.getvalue())


def read_table(path: Path) -> dict[str, Alignment]:
    """Read alignments by slide; needs slide, dx, dy and scale, and ignores ``confident``."""
    if not path.is_file():
        raise BadInput(
            f"{path}: no such alignment table; make one with `histoboost align DATA -o {path}`, "
            "or give none or auto"
        )
    rows = read_text_table(path)
    for column in COLUMNS[:4]:
        if column not in rows:
            raise BadInput(f"{path}: no column {column!r}; the table needs slide, dx, dy, scale")
    found: dict[str, Alignment] = {}
    for line, (text, *values) in enumerate(rows[list(COLUMNS[:4])].to_numpy().tolist(), start=2):
        name = nfc(text)
        if not name or name in found:
            what = f"slide {name!r} twice" if name else "no slide name"
            raise BadInput(f"{path}: line {line}: {what}; give one row per slide")
        dx, dy, scale = (
            _number(f"{path}: line {line}: column {column!r}", text)
            for column, text in zip(COLUMNS[1:4], values, strict=True)
        )
        if scale <= 0:
            raise BadInput(f"{path}: line {line}: scale must be above 0; 1 changes nothing")
        found[name] = Alignment(name, dx, dy, scale, reason=f"given in {path}")
    return found


def _number(where: str, text: str) -> float:
    if not text:  # as empty and nan are read
        raise BadInput(f"{where} is empty or nan; give a number")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{where} holds {text!r}, which is not a number; give one")
    return value
