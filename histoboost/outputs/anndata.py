"""Slides as AnnData, laid out as scanpy and squidpy expect."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.spot_files import scale_factors
from histoboost.io import write_whole
from histoboost.spots import SpotTable

if TYPE_CHECKING:
    from anndata import AnnData


def spots_anndata(
    tables: Sequence[SpotTable], obsm: Mapping[str, NDArray[Any]], frames: Any = None
) -> AnnData:
    """One AnnData of several slides: spots are rows, there are no variables.

    Parameters
    ----------
    tables : sequence of SpotTable
        Slides, in order; N spots in all.
    obsm : mapping of str to ndarray of shape (N, D)
        Written as float32.
    frames : mapping of str to (names, ndarray of shape (N, T)), optional
        Written as data frames whose columns have names; a slash in a name becomes ``_``.

    Returns
    -------
    AnnData
        ``obs``: slide, spot, split, group, library_id; index: the spot id, or
        ``<slide>:<spot>`` where there are several slides. ``obsm``: spatial (x, y in pixels of the
        source image), abundance (NaN on slides without labels) and what was given.
        ``uns["spatial"][<slide>]``: a small image and its scale.
    """
    import anndata
    import pandas as pd

    several = len(tables) > 1
    index = [f"{t.slide}:{spot}" if several else spot for t in tables for spot in t.spot_ids]
    obs = pd.DataFrame(index=pd.Index(index, dtype=object))
    for column in ("slide", "split", "group"):
        values = [getattr(table, column) for table in tables for _ in table.spot_ids]
        if any(value is not None for value in values):
            obs[column] = pd.Categorical(values)
    obs["library_id"] = obs["slide"]  # where squidpy looks
    obs["spot"] = [spot for table in tables for spot in table.spot_ids]
    adata = anndata.AnnData(obs=obs, uns={"spatial": {t.slide: _library(t) for t in tables}})
    adata.obsm["spatial"] = np.concatenate([table.xy for table in tables])
    named = dict(frames or {})
    types = next((table.cell_types for table in tables if table.labelled), None)
    if types is not None:
        named["abundance"] = (types, np.concatenate([_labels(t, len(types)) for t in tables]))
    for key, (columns, values) in named.items():
        # A slash would be a folder to HDF5 and Zarr; no two names differ in it alone.
        columns = [name.replace("/", "_") for name in columns]
        adata.obsm[key] = pd.DataFrame(values.astype(np.float32), index=obs.index, columns=columns)
    for key, rows in obsm.items():
        adata.obsm[key] = rows.astype(np.float32)
    return adata


def write_anndata(adata: AnnData, path: Path) -> None:
    """Write ``.h5ad`` or ``.zarr`` (zarr format 3), whole or not at all."""
    import anndata

    def write_zarr(target: Path) -> None:
        with anndata.settings.override(zarr_write_format=3):
            adata.write_zarr(target)

    write = write_zarr if path.suffix == ".zarr" else adata.write_h5ad
    write_whole(path, without_notes(write))


def without_notes(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """`write` without the notes of anndata, zarr and spatialdata on what they mean to change."""

    def quiet(target: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(target)

    return quiet


def _library(table: SpotTable) -> dict[str, Any]:
    """Image and scale factors of a slide; the thumbnail stands where plots look for one."""
    factors = scale_factors(table)
    if table.thumbnail is None or table.image_shape is None:
        return {"images": {}, "scalefactors": factors}
    factors["tissue_hires_scalef"] = table.thumbnail.shape[1] / table.image_shape[1]
    return {"images": {"hires": table.thumbnail}, "scalefactors": factors}


def _labels(table: SpotTable, types: int) -> NDArray[np.float32]:
    if table.abundance is None:
        return np.full((len(table), types), np.nan, np.float32)
    return table.abundance
