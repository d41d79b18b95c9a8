"""Tables of abundances, and their join to the spots: always by spot id, never by position."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")

#: What cell2location puts before the name of a cell type, by the statistic it summarises.
CELL2LOCATION_PREFIXES = tuple(
    f"{statistic}cell_abundance_w_sf_" for statistic in ("q05", "q95", "means", "stds")
)


def read_table(
    path: Path, *, index: bool = False, header: bool = True, text: bool = False
) -> pd.DataFrame:
    """Read a CSV, TSV or parquet file.

    Parameters
    ----------
    path : Path
        The suffix tells the format: ``.csv``, ``.tsv`` or ``.txt`` (tabs), ``.parquet``.
    index : bool
        Whether the first column of a text file holds the row names.
    header : bool
        Whether a text file begins with column names.
    text : bool
        Whether to leave all values as text, empty ones as ``""``.

    Raises
    ------
    HistoboostError
        If the file is missing, of another format, or cannot be parsed.
    """
    import pandas as pd

    if not path.is_file():
        raise BadInput(f"{path}: no such file; check the path")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{path}: a table of unknown format {suffix!r}; give {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(
            path,
            sep="," if suffix == ".csv" else "\t",
            header=0 if header else None,
            # The first column as text: an id such as 007 or 1e5 is a name, not a number.
            converters={0: str} if index else None,
            dtype=str if text else None,
            keep_default_na=not text,
            encoding="utf-8-sig",
        )
        # R's write.table leaves the header one name short; pandas then makes the index itself.
        implicit = not isinstance(table.index, pd.RangeIndex)
        return table.set_index(table.columns[0]) if index and not implicit else table
    except ImportError as error:
        raise BadInput(
            f"{path}: parquet needs pyarrow; pip install 'histoboost[parquet]'"
        ) from error
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are among them
        raise BadInput(f"{path}: cannot be read as a table ({error})") from error


def read_abundances(path: Path) -> pd.DataFrame:
    """Abundances by spot id, as cell2location, RCTD and stereoscope write them.

    Parameters
    ----------
    path : Path
        CSV, TSV or parquet: the spot id in the first column (in a parquet file: the index, or
        else the first column of text), one column per cell type.

    Returns
    -------
    DataFrame
        float32; the index holds the spot ids as text.

    Raises
    ------
    HistoboostError
        If an id comes twice, or a value is missing or no number.
    """
    table = read_table(path, index=True)
    if path.suffix.lower() == ".parquet" and table.index.dtype.kind in "iu":
        text = [name for name in table if not _numeric(table[name])]
        if text:
            table = table.set_index(text[0])
    table = checked_abundances(table, str(path)).dropna(how="all")
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise BadInput(f"{path}: spot {repeated[0]!r} comes more than once; give each spot one row")
    return table


def checked_abundances(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The same table as float32, its ids as text and its columns named by cell type.

    Rows that are empty throughout pass: spots that nobody labelled.

    Parameters
    ----------
    table : DataFrame
        One row per spot, the ids in the index.
    where : str
        Name of the table, for the messages.
    """
    table = table.set_axis(table.index.astype(str), axis=0)
    if table.empty:
        raise BadInput(f"{where}: holds no abundances; give one column per cell type")
    some = table.notna().any(axis=1)
    for name in table:
        if not _numeric(table[name]):
            raise BadInput(
                f"{where}: column {str(name)!r} is not numeric; remove it or store numbers"
            )
        empty = table[name].isna() & some
        if empty.any():
            raise BadInput(
                f"{where}: column {str(name)!r} has {int(empty.sum())} empty values "
                f"(first: spot {table.index[empty][0]}); fill them in or remove "
                "these rows"
            )
    return table.astype(np.float32).set_axis(cell_type_names(list(table.columns)), axis=1)


def cell_type_names(columns: Sequence[object]) -> list[str]:
    """Names of cell types: cell2location's prefix is taken off where all columns carry it."""
    names = [str(column) for column in columns]
    for prefix in CELL2LOCATION_PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return [name.removeprefix(prefix) for name in names]
    return names


def join_abundances(
    spot_ids: Sequence[str], table: pd.DataFrame, where: str
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Find the row of every spot; what does not match is reported.

    Parameters
    ----------
    spot_ids : sequence of N str
        Ids of the spots, in their order.
    table : DataFrame
        From `read_abundances`.
    where : str
        Slide and table, for the messages.

    Returns
    -------
    known : ndarray of shape (N,), bool
        Spots that have a row; the others cannot be learnt from.
    abundance : ndarray of shape (number of known, T), float32

    Raises
    ------
    HistoboostError
        If no id matches at all; the message shows an id of each side.
    """
    import pandas as pd

    rows = table.index.get_indexer(pd.Index(spot_ids))
    known = rows >= 0
    if len(spot_ids) and not known.any():
        raise BadInput(
            f"{where}: none of the {len(table)} ids is that of a spot; the table has "
            f"{str(table.index[0])!r} where the spots have {spot_ids[0]!r}; make them agree"
        )
    if not known.all():
        first = spot_ids[int(np.argmin(known))]
        warnings.warn(
            f"{where}: {int((~known).sum())} of {len(known)} spots have no abundances and are "
            f"left out (first: {first})",
            HistoboostWarning,
            stacklevel=2,
        )
    extra = ~table.index.isin(list(spot_ids))
    if extra.any():
        warnings.warn(
            f"{where}: {int(extra.sum())} of {len(table)} rows belong to no spot and are ignored "
            f"(first: {table.index[extra][0]})",
            HistoboostWarning,
            stacklevel=2,
        )
    return known, table.to_numpy(np.float32)[rows[known]]


def labelled_spots(
    values: NDArray[np.float32], where: str
) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
    """Which spots of a slide carry abundances; those that do not are reported.

    Parameters
    ----------
    values : ndarray of shape (N, T), float32
        NaN throughout in rows without abundances.
    where : str
        The slide, for the message.

    Returns
    -------
    known : ndarray of shape (N,), bool
        All True on a slide that has no abundances at all.
    abundance : ndarray of shape (number of known, T), float32, or None
        None on such a slide.
    """
    known = np.asarray(np.isfinite(values).any(axis=1))
    if not known.any():
        return np.ones(len(values), bool), None
    if not known.all():
        warnings.warn(
            f"{where}: {int((~known).sum())} of {len(known)} spots have no abundances and are "
            "left out",
            HistoboostWarning,
            stacklevel=2,
        )
    return known, values[known]


def _numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iufb"
