"""Slides of a store as AnnData or SpatialData, laid out as scanpy and squidpy expect."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostWarning, MissingExtra
from histoboost.io import check_output, write_whole
from histoboost.names import check_cell_type_names
from histoboost.outputs.anndata import spots_anndata, without_notes, write_anndata
from histoboost.spots import SpotTable, check_cell_types, spot_diameter

if TYPE_CHECKING:
    from anndata import AnnData

SUFFIXES = (".h5ad", ".zarr")


def export(
    store: str | Path | EmbeddingStore, path: str | Path, *, spatialdata: bool = False
) -> list[str]:
    """Write all slides of a store, with the embeddings that every slide has, to one file.

    Parameters
    ----------
    store : path or EmbeddingStore
        Where from.
    path : str or Path
        ``.h5ad`` or ``.zarr``; a folder that exists is refused.
    spatialdata : bool
        Write SpatialData (``.zarr``) instead of AnnData.

    Returns
    -------
    list of str
        Names of the embeddings written.

    Raises
    ------
    HistoboostError
        If the store has no slides, their cell types differ, or `path` cannot be written.
    """
    path = Path(path)
    store = store if isinstance(store, EmbeddingStore) else EmbeddingStore(store, mode="r")
    check_output(path, (".zarr",) if spatialdata else SUFFIXES)
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
        warnings.warn(
            f"{store.location}: {', '.join(partial)} left out: not stored for every slide",
            HistoboostWarning,
            stacklevel=2,
        )
    obsm = {
        name: np.concatenate([store.read(table.slide, name) for table in tables]) for name in names
    }
    adata = spots_anndata(tables, obsm)
    adata.uns["recipes"] = json.dumps(
        {name: recipes[0][name].without_slide().fields for name in names}, sort_keys=True
    )
    if spatialdata:
        write_whole(path, without_notes(_spatialdata(adata, tables).write))
    else:
        write_anndata(adata, path)
    return names


def _spatialdata(adata: AnnData, tables: Sequence[SpotTable]) -> Any:
    """Circles and a small image for each slide, in a coordinate system of the slide's name."""
    try:
        import spatialdata
        from spatialdata.models import Image2DModel, ShapesModel, TableModel
        from spatialdata.transformations import Identity, Scale
    except ImportError as error:
        raise MissingExtra("export --spatialdata", "spatialdata", "spatialdata") from error
    images, shapes = {}, {}
    for table in tables:
        name = _plain(table.slide)
        shapes[name] = ShapesModel.parse(
            table.xy,
            geometry=0,
            radius=spot_diameter(table.xy) / 2,
            transformations={name: Identity()},
        )
        if table.thumbnail is not None and table.image_shape is not None:
            height, width = table.image_shape
            rows, columns, _ = table.thumbnail.shape
            images[f"{name}_image"] = Image2DModel.parse(
                table.thumbnail,
                dims=("y", "x", "c"),
                c_coords=["r", "g", "b"],
                transformations={name: Scale([width / columns, height / rows], ("x", "y"))},
            )
    adata = adata.copy()
    # SpatialData takes fewer characters in names than histoboost: resnet50@64 is resnet50_64.
    for key in list(adata.obsm):
        adata.obsm[_plain(key)] = adata.obsm.pop(key)
    del adata.uns["spatial"]  # the images are elements of their own
    adata.obs["region"] = [_plain(slide) for slide in adata.obs["slide"]]
    adata.obs["region"] = adata.obs["region"].astype("category")
    adata.obs["instance"] = np.concatenate([np.arange(len(table)) for table in tables])
    parsed = TableModel.parse(
        adata, region=list(shapes), region_key="region", instance_key="instance"
    )
    return spatialdata.SpatialData(images=images, shapes=shapes, tables={"table": parsed})


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
