"""Write slides as SpatialData: circles, small images and one table that annotates the circles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.io import write_whole
from histoboost.outputs.anndata import without_warnings
from histoboost.spots import SpotTable, spot_diameter

if TYPE_CHECKING:
    from anndata import AnnData


def write_spatialdata(path: Path, adata: AnnData, tables: Sequence[SpotTable]) -> None:
    """Write a new SpatialData store (``.zarr``) atomically.

    `adata`, made from `tables` by `spots_anndata`, becomes ``tables/table``. Each slide has its own
    coordinate system, in pixels of the source image, with the spots as circles; both have the name
    of the slide. Its thumbnail is ``<slide>_image``.
    """
    write_whole(path, without_warnings(lambda target: _spatialdata(adata, tables).write(target)))


def _spatialdata(adata: AnnData, tables: Sequence[SpotTable]) -> Any:
    import spatialdata
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    images, shapes = {}, {}
    for table in tables:
        name = _plain(table.slide)
        if name in shapes:
            raise BadInput(
                f"slide {table.slide}: becomes {name} in SpatialData, as does another slide; "
                "rename one"
            )
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
    # SpatialData allows fewer characters in names: resnet50@64 becomes resnet50_64.
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
