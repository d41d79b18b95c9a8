"""Abundances of cell types, and their join to the spots: always by spot id, never by position."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoboost.errors import BadInput, warn
from histoboost.slides.slide import Slide
from histoboost.slides.tables import id_column, read_table

if TYPE_CHECKING:
    import pandas as pd

#: What cell2location puts before the name of a cell type, by the statistic it summarises.
CELL2LOCATION_PREFIXES = tuple(
    f"{statistic}cell_abundance_w_sf_" for statistic in ("q05", "q95", "means", "stds")
)

#: Columns that tools write beside cell types.
NO_CELL_TYPE = re.compile(
    r"|index|level_0|_index|Unnamed: \d+|spot|spot_id|barcode|id|slide|sample|library_id|split"
    r"|group|Test_Set|x|y|in_tissue|array_row|array_col|pxl_(row|col)_in_fullres|image(row|col)"
    r"|(log1p_)?(total_counts|n_genes_by_counts)|n_counts|n_genes|(total|pct)_counts_mt"
    r"|n(Count|Feature)_(Spatial|RNA)",
    re.IGNORECASE,
)


def read_abundances(path: Path) -> pd.DataFrame:
    """Abundances by spot id, float32, as cell2location, RCTD and stereoscope write them.

    CSV, TSV or parquet: spot ids and one column per cell type, see `tables.read_table`.
    """
    table = read_table(path)
    table = table.set_index(id_column(table, path))
    check_ids(table, path)
    return checked_abundances(table, str(path))


def check_ids(table: pd.DataFrame, where: Path | str) -> None:
    """Refuse a table that has two rows for one spot."""
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise BadInput(
            f"{where}: spot {str(repeated[0])!r} comes more than once; give each spot one row"
        )


def checked_abundances(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The same table as float32, its ids as text and its columns named by cell type.

    Rows that are empty throughout pass: spots that nobody labelled. Columns that are no cell types,
    such as coordinates and counts, are left out with a warning.
    """
    table = table.set_axis(table.index.astype(str), axis=0)
    others = [name for name in map(str, table.columns) if NO_CELL_TYPE.fullmatch(name)]
    if others:
        warn(f"{where}: left out {', '.join(others)}: taken for no cell type; rename one that is")
        table = table.loc[:, [str(name) not in others for name in table.columns]]
    if table.empty:
        raise BadInput(f"{where}: holds no abundances; give one column per cell type")
    some = table.notna().any(axis=1)
    for name in table:
        if table[name].dtype.kind not in "iufb":
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


def join_abundances(slide: Slide, table: pd.DataFrame, where: str) -> Slide:
    """The slide with the abundances that `table`, of `read_abundances`, has for its spots.

    Spots without a row are left out with a warning: they cannot be used for training.
    """
    ids = list(slide.spot_ids)
    extra = ~table.index.isin(ids)
    if ids and extra.all():
        raise BadInput(
            f"{where}: none of the {len(table)} ids is that of a spot; the table has "
            f"{str(table.index[0])!r} where the spots have {ids[0]!r}; make them agree"
        )
    if extra.any():
        warn(
            f"{where}: {int(extra.sum())} of {len(table)} rows belong to no spot and are ignored "
            f"(first: {table.index[extra][0]})"
        )
    return with_abundances(slide, table.reindex(ids), where)


def with_abundances(slide: Slide, table: pd.DataFrame | None, where: str) -> Slide:
    """The slide with abundances in the order of its spots, (N, T).

    Spots whose row is empty throughout are left out with a warning; where all are, or without a
    table, the slide has no labels.
    """
    if table is None:
        return slide
    values = table.to_numpy(np.float32)
    known = np.isfinite(values).any(axis=1)
    if not known.any():
        return slide
    if not known.all():
        first = slide.spot_ids[int(np.argmin(known))]
        warn(
            f"{where}: {int((~known).sum())} of {len(known)} spots have no abundances and are "
            f"left out (first: {first})"
        )
    return replace(slide, abundance=values, cell_types=tuple(table.columns)).only(known)
