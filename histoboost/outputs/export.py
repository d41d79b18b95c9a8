"""Export the slides of a store as AnnData or SpatialData."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, require, warn
from histoboost.io import check_output
from histoboost.names import check_cell_type_names
from histoboost.outputs.anndata import spots_anndata, write_anndata
from histoboost.outputs.spatialdata import write_spatialdata
from histoboost.spots import check_cell_types

SUFFIXES = (".h5ad", ".zarr")


def export(store: EmbeddingStore, path: str | Path, *, spatialdata: bool = False) -> list[str]:
    """Export all slides of a store, with the embeddings that all of them have, to one file.

    Writes AnnData (``.h5ad`` or ``.zarr``) or SpatialData (``.zarr``) and returns the names of the
    embeddings.
    """
    path = Path(path)
    check_output(path, (".zarr",) if spatialdata else SUFFIXES)
    if spatialdata:
        require("export --spatialdata", "spatialdata", "spatialdata")
    tables = [store.spots(slide) for slide in store.slides()]
    if not tables:
        raise BadInput(f"{store.location}: contains no slides; run histoboost featurize first")
    labelled = [table for table in tables if table.labelled]
    remedy = "; they cannot share one table; remove one of them"
    check_cell_types(labelled, store.location, remedy)
    if labelled:
        check_cell_type_names(labelled[0].cell_types, store.location)
    recipes = [store.embeddings(table.slide) for table in tables]
    names = [name for name in recipes[0] if all(name in own for own in recipes)]
    partial = sorted({name for own in recipes for name in own} - set(names))
    if partial:
        warn(f"{store.location}: {', '.join(partial)} left out: not stored for every slide")
    obsm = {
        name: np.concatenate([store.read(table.slide, name) for table in tables]) for name in names
    }
    adata = spots_anndata(tables, obsm)
    adata.uns["recipes"] = json.dumps(
        {name: recipes[0][name].without_slide().fields for name in names}, sort_keys=True
    )
    if spatialdata:
        write_spatialdata(path, adata, tables)
    else:
        write_anndata(adata, path)
    return names
