"""Where the abundances lie in an AnnData object: on disk, or as the table of a SpatialData."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.slides.readers.abundances import checked_abundances

if TYPE_CHECKING:
    import pandas as pd

#: Keys of obsm that are taken before any other: histoboost's own, cell2location's.
PREFERRED = ("abundance", "q05_cell_abundance_w_sf")


def find_abundances(
    obs: pd.DataFrame,
    obsm: Mapping[str, Any],
    names: Sequence[str] | None,
    where: str,
    wanted: str | None = None,
) -> pd.DataFrame | None:
    """Abundances of an AnnData's spots, float32 in the order of `obs`, or None.

    `obsm` are the elements that may be abundances: data frames, and arrays under a preferred key.
    `names` are the cell types that ``uns`` holds: columns of an array, or columns of `obs`.
    `wanted` is ``obsm/<key>``, or ``obs/<pattern>`` such as ``obs/q05_*`` for columns of `obs`;
    ``""`` looks for none. By default they are the data frame in obsm (a preferred key before any
    other), else the columns of `obs` that `names` lists, as cell2location leaves them.
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
                f"{where}: has no names of cell types; store a data frame with one column each"
            )
        table = pd.DataFrame(array, index=obs.index, columns=list(names))
    if not table.index.equals(obs.index):
        raise BadInput(
            f"{where}: its rows are named otherwise than those of obs; write it again with anndata"
        )
    return checked_abundances(table, where)
