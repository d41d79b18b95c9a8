"""Find, check and join abundances of cell types: always by spot id, never by row number."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.errors import BadInput, warn
from histoboost.slides.slide import Slide
from histoboost.slides.tables import id_column, read_table

if TYPE_CHECKING:
    import pandas as pd

#: Prefixes that cell2location adds to cell types, by summary statistic.
CELL2LOCATION_PREFIXES = tuple(
    f"{statistic}cell_abundance_w_sf_" for statistic in ("q05", "q95", "means", "stds")
)

#: Keys of obsm that take precedence: histoboost's own, cell2location's.
PREFERRED = ("abundance", "q05_cell_abundance_w_sf")

#: Columns that tools write beside cell types.
NO_CELL_TYPE = re.compile(
    r"|index|level_0|_index|Unnamed: \d+|spot|spot_id|barcode|id|slide|sample|library_id|split"
    r"|group|Test_Set|x|y|in_tissue|array_row|array_col|pxl_(row|col)_in_fullres|image(row|col)"
    r"|(log1p_)?(total_counts|n_genes_by_counts)|n_counts|n_genes|(total|pct)_counts_mt"
    r"|n(Count|Feature)_(Spatial|RNA)",
    re.IGNORECASE,
)


def find_abundances(
    obs: pd.DataFrame,
    obsm: Mapping[str, Any],
    names: Sequence[str] | None,
    where: str,
    wanted: str | None = None,
) -> pd.DataFrame | None:
    """Find the abundances of an AnnData, float32 in the order of `obs`; None if there are none.

    `obsm` holds the candidates: data frames, and arrays under a preferred key. `names` are the cell
    types in ``uns``: columns of an array, or columns of `obs`. `wanted` is ``obsm/<key>``,
    ``obs/<pattern>`` such as ``obs/q05_*``, or ``""`` for none. The default is the data frame in
    obsm (a preferred key first), else the columns of `obs` that `names` lists, as cell2location
    leaves them.
    """
    if wanted == "":
        return None
    if wanted is not None:
        room, _, key = wanted.partition("/")
        if room == "obsm" and key in obsm:
            return _from_obsm(obs, obsm[key], names, f"{where}: obsm[{key!r}]")
        if room == "obs" and key:
            columns = [name for name in obs if fnmatch.fnmatchcase(str(name), key)]
            if columns:
                return checked_abundances(obs[columns], f"{where}: obs")
        known = ", ".join(f"obsm/{name}" for name in obsm) or "none in obsm"
        raise BadInput(f"{where}: no abundances at {wanted!r}; there are {known}")
    frames = [key for key in obsm if key != "spatial" and hasattr(obsm[key], "columns")]
    keys = [key for key in PREFERRED if key in obsm] or frames
    if len(keys) > 1 and keys[0] not in PREFERRED:
        raise BadInput(
            f"{where}: abundances may be in obsm of {', '.join(keys)}; name one in a manifest, "
            f"abundances = obsm/{keys[0]}"
        )
    if keys:
        return _from_obsm(obs, obsm[keys[0]], names, f"{where}: obsm[{keys[0]!r}]")
    if names and all(name in obs for name in names):
        return checked_abundances(obs[list(names)], f"{where}: obs")
    return None


def _from_obsm(
    obs: pd.DataFrame, element: Any, names: Sequence[str] | None, where: str
) -> pd.DataFrame:
    import pandas as pd

    if hasattr(element, "columns"):
        table = element
    else:
        array = np.asarray(element.toarray() if hasattr(element, "toarray") else element)
        if names is None or array.ndim != 2 or len(names) != array.shape[1]:
            raise BadInput(
                f"{where}: has no cell type names; store a data frame with one column each"
            )
        table = pd.DataFrame(array, index=obs.index, columns=list(names))
    if not table.index.equals(obs.index):
        raise BadInput(
            f"{where}: its row names differ from those of obs; write it again with anndata"
        )
    return checked_abundances(table, where)


def read_abundances(path: Path) -> pd.DataFrame:
    """Read a table of spot ids and one column per cell type, see `tables.read_table`."""
    table = read_table(path)
    table = table.set_index(id_column(table, path))
    check_ids(table, path)
    return checked_abundances(table, str(path))


def check_ids(table: pd.DataFrame, where: Path | str) -> None:
    """Refuse a table with two rows for one spot."""
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise BadInput(
            f"{where}: spot {str(repeated[0])!r} comes more than once; give each spot one row"
        )


def checked_abundances(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Convert a table to float32 with text ids and one column per cell type.

    Completely empty rows, of spots without labels, are allowed. Columns that are not cell types,
    such as coordinates and counts, are left out with a warning.
    """
    table = table.set_axis(table.index.astype(str), axis=0)
    others = [name for name in map(str, table.columns) if NO_CELL_TYPE.fullmatch(name)]
    if others:
        warn(f"{where}: left out {', '.join(others)}, not a cell type; rename one that is")
        table = table.loc[:, [str(name) not in others for name in table.columns]]
    if table.empty:
        raise BadInput(f"{where}: has no abundances; give one column per cell type")
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
    return table.astype(np.float32).set_axis(_cell_type_names(list(table.columns)), axis=1)


def _cell_type_names(columns: Sequence[object]) -> list[str]:
    """Names of cell types, without cell2location's prefix if all columns have it."""
    names = [str(column) for column in columns]
    for prefix in CELL2LOCATION_PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return [name.removeprefix(prefix) for name in names]
    return names


def join_abundances(slide: Slide, table: pd.DataFrame, where: str) -> Slide:
    """Join a table of `read_abundances` to a slide; spots without a row are left out."""
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
    """Add abundances (N, T), in the order of the spots, to a slide.

    Spots with an empty row are left out with a warning; if all are empty, or without a table, the
    slide has no labels.
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
