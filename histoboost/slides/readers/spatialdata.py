"""SpatialData zarr stores: spots are circles or points, joined to their table by instance.

Coordinates are transformed from the system of the spots via a shared coordinate system to the
pixels of the image; any affine transformation is supported. The image is an RGB image that shares a
system with the spots, preferably one whose name begins with that of the spots: the one with the
most spots, then the largest.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from histoboost.errors import BadInput, MissingExtra, warn
from histoboost.slides.images.base import reading
from histoboost.slides.readers.abundances import find_abundances, with_abundances
from histoboost.slides.readers.anndata import zarr_kind
from histoboost.slides.readers.spatialdata_images import image_under, moved
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, Slide


def detect(path: Path) -> bool:
    """Whether `path` is a SpatialData store."""
    return path.is_dir() and zarr_kind(path) == "spatialdata"


def read(path: Path) -> Dataset:
    """Read one slide per element of spots that a table annotates, named after the element.

    Without any table, every element of points or circles is a slide without labels.
    """
    return Dataset(path, tuple(read_slides(path)))


def read_slides(path: Path, abundances: str | None = None, image: str | None = None) -> list[Slide]:
    """Read the slides of one SpatialData store.

    For `abundances` see `find_abundances`; ``tables/<name>`` or ``tables/<name>/obsm/<key>`` also
    names the table. `image` is the ``images/<name>`` of the spots.
    """
    try:
        import spatialdata
    except ImportError as error:
        raise MissingExtra(str(path), "spatialdata", "spatialdata") from error
    with reading(path, "SpatialData", "write it again with spatialdata"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = spatialdata.read_zarr(path)
        regions = _regions(data, path, abundances)
        return [
            _slide(data, path, region, *rows, list(regions), image)
            for region, rows in regions.items()
        ]


def _regions(data: Any, path: Path, abundances: str | None) -> dict[str, tuple[Any, Any]]:
    """Instances by spot id, and abundances, of every element of spots."""
    import pandas as pd

    within, wanted = abundances, None
    if abundances is not None and abundances.startswith("tables/"):
        _, wanted, *rest = abundances.split("/", 2)
        within = rest[0] if rest else None
        if wanted not in data.tables:
            raise BadInput(f"{path}: no table {wanted!r}; there are {', '.join(data.tables)}")
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for key, table in data.tables.items():
        attributes = table.uns.get("spatialdata_attrs")
        if not attributes or wanted not in (None, key):
            continue
        names = table.uns.get("cell_types", table.uns.get("mod", {}).get("factor_names"))
        names = None if names is None else [str(name) for name in np.atleast_1d(names)]
        where = f"{path}: tables/{key}"
        labels = find_abundances(table.obs, dict(table.obsm), names, where, within)
        for region in map(str, np.atleast_1d(attributes["region"])):
            rows = (table.obs[attributes["region_key"]] == region).to_numpy()
            if "in_tissue" in table.obs:
                rows &= table.obs["in_tissue"].astype(int).to_numpy() == 1
            instances = table.obs.loc[rows, attributes["instance_key"]]
            tables = found.setdefault(region, {})
            tables[key] = instances, None if labels is None else labels[rows]
    if not data.tables:
        for name, shapes in data.shapes.items():
            found[str(name)] = {"": (pd.Series(shapes.index, shapes.index.astype(str)), None)}
    if not found:
        raise BadInput(f"{path}: has no spots; expected shapes that are circles")
    faults = {region: fault for region in found if (fault := _no_spots(data, region))}
    for region, fault in faults.items():
        if len(faults) == len(found):
            raise BadInput(f"{path}: {region}: {fault}")
        warn(f"{path}: {region} is left out: {fault}")
    return {
        region: _one_table(path, region, tables)
        for region, tables in found.items()
        if region not in faults
    }


def _no_spots(data: Any, region: str) -> str | None:
    if region not in data.shapes:
        there = ", ".join(data.shapes) or "none"
        return f"no such shapes, though a table annotates them; there are {there}"
    if not (data.shapes[region].geom_type == "Point").all():
        return "its shapes are not circles or points; give the spots"
    return None


def _one_table(path: Path, region: str, tables: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    """The only table of an element, or the only one with abundances."""
    labelled = [key for key, (_, labels) in tables.items() if labels is not None]
    if len(tables) > 1 and len(labelled) != 1:
        raise BadInput(
            f"{path}: {region}: annotated by the tables {', '.join(tables)}; name one in a "
            f"manifest, abundances = tables/{next(iter(tables))}"
        )
    return tables[labelled[0] if labelled else next(iter(tables))]


def _slide(
    data: Any,
    path: Path,
    region: str,
    instances: Any,
    labels: Any,
    regions: list[str],
    wanted: str | None,
) -> Slide:
    where = f"{path}: {region}"
    shapes = data.shapes[region]
    rows = shapes.index.get_indexer(instances)
    known = rows >= 0
    if not known.any():
        raise BadInput(
            f"{where}: no row of the table belongs to one of its shapes; their instances differ"
        )
    if not known.all():
        warn(
            f"{where}: {int((~known).sum())} of {len(known)} rows of the table belong to no shape "
            f"and are left out (first: {instances.index[~known][0]})"
        )
    points = shapes.geometry.iloc[rows[known]]
    xy = np.stack([points.x.to_numpy(), points.y.to_numpy()], axis=1).astype(np.float64)
    under = image_under(data, path, region, regions, xy, wanted)
    um = None
    if "radius" in shapes:
        diameter = 2 * float(np.median(shapes["radius"]))
        um = um_per_px({"spot_diameter_fullres": diameter}, xy, where, visium=False)
    scale = float(np.sqrt(abs(np.linalg.det(under.matrix[:2, :2]))))
    slide = Slide(
        name=region,
        image=under.image,
        xy=moved(xy, under.matrix),
        spot_ids=tuple(instances.index[known].astype(str)),
        um_per_px=None if um is None else um / scale,
    )
    return with_abundances(slide, None if labels is None else labels[known], where)
