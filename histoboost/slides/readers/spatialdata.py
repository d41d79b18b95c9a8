"""SpatialData zarr stores: spots are circles or points, joined to their table by instance.

Coordinates pass from the spots' own system through a shared coordinate system into the pixels of
the image, so any affine transformation is followed. Where several images share a system with the
spots, the largest that holds the most spots is taken (of a pyramid, its finest level).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError, MissingExtra, warn
from histoboost.slides.images.array import StoredImage, zarr_image
from histoboost.slides.readers.abundances import with_abundances
from histoboost.slides.readers.anndata import READ_ERRORS, zarr_kind
from histoboost.slides.readers.anndata_abundances import find_abundances
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, Slide


def detect(path: Path) -> bool:
    """Whether `path` is a SpatialData store."""
    return path.is_dir() and zarr_kind(path) == "spatialdata"


def read(path: Path) -> Dataset:
    """Read spots and abundances; one slide for each element that a table annotates.

    Parameters
    ----------
    path : Path
        ``.zarr`` folder.

    Returns
    -------
    Dataset
        A slide is called after its element of spots. Without any table, every element of points
        or circles is a slide without labels.

    Raises
    ------
    HistoboostError
        If the store cannot be read, or spots share no coordinate system with an image.
    """
    return Dataset(path, tuple(read_slides(path)))


def read_slides(path: Path, abundances: str | None = None) -> list[Slide]:
    """Read the slides of one SpatialData store.

    Parameters
    ----------
    path : Path
        ``.zarr`` folder.
    abundances : str, optional
        Where they are in the table, see `anndata_abundances.find_abundances`.
    """
    try:
        import spatialdata
    except ImportError as error:
        raise MissingExtra(str(path), "spatialdata", "spatialdata") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = spatialdata.read_zarr(path)
        slides = [_slide(data, path, *region) for region in _regions(data, path, abundances)]
    except HistoboostError:
        raise
    except (*READ_ERRORS, ImportError) as error:
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"{path}: cannot be read as SpatialData ({reason}); write it again with spatialdata"
        ) from error
    if not slides:
        raise BadInput(f"{path}: holds no spots; expected shapes that are circles")
    return slides


def _regions(data: Any, path: Path, abundances: str | None) -> Iterator[tuple[str, Any, Any]]:
    """Element of spots, ids of its instances by spot id, and abundances; one slide each."""
    import pandas as pd

    for key, table in data.tables.items():
        attributes = table.uns.get("spatialdata_attrs")
        if not attributes:
            continue
        names = table.uns.get("cell_types", table.uns.get("mod", {}).get("factor_names"))
        names = None if names is None else [str(name) for name in np.atleast_1d(names)]
        labels = find_abundances(
            table.obs, dict(table.obsm), names, f"{path}: tables/{key}", abundances
        )
        for region in np.atleast_1d(attributes["region"]):
            rows = (table.obs[attributes["region_key"]] == region).to_numpy()
            if "in_tissue" in table.obs:
                rows &= table.obs["in_tissue"].astype(int).to_numpy() == 1
            instances = table.obs.loc[rows, attributes["instance_key"]]
            yield str(region), instances, None if labels is None else labels[rows]
    if not data.tables:
        for name, shapes in data.shapes.items():
            yield name, pd.Series(shapes.index, index=shapes.index.astype(str)), None


def _slide(data: Any, path: Path, region: str, instances: Any, labels: Any) -> Slide:
    where = f"{path}: {region}"
    if region not in data.shapes:
        raise BadInput(
            f"{where}: no such shapes, though a table annotates them; there are "
            f"{', '.join(data.shapes) or 'none'}"
        )
    shapes = data.shapes[region]
    if not (shapes.geom_type == "Point").all():
        raise BadInput(f"{where}: its shapes are no circles or points; give the spots")
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
    image, matrix = _image_under(data, path, region, xy)
    um = None
    if "radius" in shapes:
        diameter = 2 * float(np.median(shapes["radius"]))
        um = um_per_px({"spot_diameter_fullres": diameter}, xy, where, visium=False)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    slide = Slide(
        name=region,
        image=image,
        xy=_moved(xy, matrix),
        spot_ids=tuple(instances.index[known].astype(str)),
        um_per_px=None if um is None else um / scale,
    )
    return with_abundances(slide, None if labels is None else labels[known], where)


def _image_under(
    data: Any, path: Path, region: str, xy: NDArray[np.float64]
) -> tuple[StoredImage, NDArray[np.float64]]:
    """The image that the spots lie on, and the affine matrix from their system to its pixels."""
    from spatialdata.transformations import get_transformation

    spots = get_transformation(data.shapes[region], get_all=True)
    found = []
    for name, element in data.images.items():
        systems = get_transformation(element, get_all=True)
        for system in spots.keys() & systems.keys():
            matrix = np.linalg.inv(_affine(systems[system])) @ _affine(spots[system])
            array, axes = _finest(path, name)
            image = zarr_image(path, array, axes)
            height, width = image.shape
            x, y = _moved(xy, matrix).T
            inside = int(((x >= 0) & (y >= 0) & (x <= width) & (y <= height)).sum())
            found.append((inside, height * width, name, image, matrix))
    if not found:
        raise BadInput(
            f"{path}: {region}: shares no coordinate system with an image; "
            "set a transformation of both to one system"
        )
    _, _, _, image, matrix = max(found, key=lambda item: item[:3])
    return image, matrix


def _affine(transformation: Any) -> NDArray[np.float64]:
    axes = ("x", "y")
    return np.asarray(transformation.to_affine_matrix(axes, axes), dtype=np.float64)


def _moved(xy: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


def _finest(path: Path, name: str) -> tuple[str, str]:
    """Array and axes of the finest level of an image, from its OME-NGFF metadata."""
    import zarr

    attributes: dict[str, Any] = dict(zarr.open_group(path / "images" / name, mode="r").attrs)
    (multiscales, *_) = attributes.get("ome", attributes)["multiscales"]
    axes = "".join(axis["name"] for axis in multiscales["axes"])
    return f"images/{name}/{multiscales['datasets'][0]['path']}", axes
