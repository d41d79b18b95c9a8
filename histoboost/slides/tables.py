"""Tables as people save them: CSV with any separator, decimal commas, UTF-16, or parquet."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from histoboost.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")

#: Columns of spot ids, in any position; if there is none, the first column.
ID_COLUMNS = ("spot", "spot_id", "barcode", "id")

# With longer exponents pandas reads out of bounds, which may crash the process.
_LONG_EXPONENT = re.compile(r"(?<![\w.])[+-]?[\d.]+[eE][+-]?\d{5,}(?!\w)")
_COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})?\s*")


def read_table(path: Path, *, header: bool = True) -> pd.DataFrame:
    """Read a table of numbers with spot ids, which stay text (007 or 1e5 is a name).

    The format follows the suffix: ``.csv`` (commas), ``.tsv`` or ``.txt`` (tabs), ``.parquet``.
    Text tables may also use semicolons and decimal commas; `header` tells whether they start with
    column names. See `id_column` for the ids.
    """
    if _suffix(path) == ".parquet":
        return _read_parquet(path)
    text = read_text(path).lstrip("\r\n")
    separator, names = _layout(path, text, header)
    id_position = next((names.index(name) for name in ID_COLUMNS if name in names), 0)
    options: dict[str, Any] = {
        "converters": {id_position: str},
        "header": None,
        "names": names or None,
        "skiprows": 1 if header else 0,
        "sep": separator,
    }
    table = _parse(path, text, **options)
    suspects = [column for column in islice(table, 1, None) if _has_decimal_commas(table[column])]
    if suspects:
        commas = [value for name in suspects for value in table[name].dropna() if "," in value]
        if all(map(_THOUSANDS.fullmatch, commas)):
            raise BadInput(
                f"{path}: {commas[0]!r} in column {str(suspects[0])!r} may be a fraction or "
                "thousands; write it with a decimal point"
            )
        table = _parse(path, text, decimal=",", **options)
    return table


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file with all values as stripped text; empty ones are ``""``."""
    import pandas as pd

    _suffix(path)
    text = read_text(path).lstrip("\r\n")
    separator, names = _layout(path, text, header=True)
    table = _parse(path, text, sep=separator, names=names, skiprows=1, header=None, dtype=str)
    return pd.DataFrame(table.fillna("").map(str.strip))


def read_text(path: Path) -> str:
    """Read a file in UTF-8, or in UTF-16 with a byte order mark."""
    try:
        data = path.read_bytes()
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}: line {line} is not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    if "\0" in text:
        raise BadInput(f"{path}: is not text, or UTF-16 without a mark; save it as UTF-8")
    return text


def id_column(table: pd.DataFrame, where: Path | str) -> Any:
    """Name of the column of spot ids: one of `ID_COLUMNS`, else the first."""
    named = [name for name in ID_COLUMNS if name in table]
    if not named and table.columns[0] in ("x", "y"):
        raise BadInput(f"{where}: no column of spot ids; add one called spot")
    return named[0] if named else table.columns[0]


def _suffix(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; check the path")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{path}: a table of unknown format {suffix!r}; give {', '.join(SUFFIXES)}")
    return suffix


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtra(str(path), "pyarrow", "parquet") from error
    except Exception as error:
        raise _unreadable(path, error) from error
    if not isinstance(table.index, pd.RangeIndex) or table.index.name in ID_COLUMNS:
        ids = table.index
        table = table.reset_index(drop=True)
        table.insert(0, ids.name if ids.name not in table else "index", ids.astype(str))
    elif not any(name in table for name in ID_COLUMNS):
        text = [str(name) for name in table if table[name].dtype.kind not in "iufb"]
        if not text:
            raise BadInput(f"{path}: no column of spot ids; call it spot, or store it as text")
        table.insert(0, text[0], table.pop(text[0]))
    name = id_column(table, path)
    table[name] = table[name].astype(str)
    return table


def _layout(path: Path, text: str, header: bool) -> tuple[str, list[str]]:
    """Separator and column names (none without a header), guessed from the first lines."""
    usual = "," if path.suffix.lower() == ".csv" else "\t"
    exact: dict[str, list[str]] = {}
    loose: dict[str, list[str]] = {}
    for separator in dict.fromkeys((usual, ";", ",", "\t")):
        try:
            rows = list(islice(csv.reader(io.StringIO(text), delimiter=separator), 50))
        except csv.Error as error:
            raise _unreadable(path, error) from error
        first, widths = (rows or [[]])[0], {len(row) for row in rows[1:] if row}
        # R's write.table leaves the header one name short.
        if header and first and first[0] not in ID_COLUMNS and widths == {len(first) + 1}:
            (exact if len(first) > 1 else loose)[separator] = ["", *first]
        elif len(first) > 1 and widths <= {len(first)}:
            exact[separator] = first
        elif len(first) > 1 or separator == usual:
            loose[separator] = first
    separator, names = next(iter((exact or loose).items()))
    if not header:
        return separator, []
    if not names:
        raise BadInput(f"{path}: is empty; give a table with a header")
    names = [name.strip() or (f"Unnamed: {i}" if i else "") for i, name in enumerate(names)]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise BadInput(f"{path}: column {twice[0]!r} comes twice; keep one")
    return separator, names


def _parse(path: Path, text: str, **options: Any) -> pd.DataFrame:
    import pandas as pd

    options |= {"skipinitialspace": True, "index_col": False}
    if _LONG_EXPONENT.search(text):
        options["float_precision"] = "round_trip"  # Python's own parser
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # about dropped values
            table = pd.read_csv(io.StringIO(text), **options)
            return cast("pd.DataFrame", table)
    except (pd.errors.ParserWarning, ValueError, TypeError, OverflowError) as error:
        raise _unreadable(path, error) from error


def _has_decimal_commas(column: pd.Series) -> bool:
    if column.dtype.kind in "iufb":
        return False
    values = column.dropna()
    return all(isinstance(value, str) and _COMMA.fullmatch(value) for value in values) and any(
        "," in value for value in values
    )


def _unreadable(path: Path, error: Exception) -> BadInput:
    reason = str(error).strip().split("\n")[0]
    return BadInput(f"{path}: cannot be read as a table ({reason}); save it again as CSV in UTF-8")
