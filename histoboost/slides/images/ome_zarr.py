"""OME-Zarr folders (NGFF multiscales)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histoboost.errors import BadInput
from histoboost.slides.images.array import StoredImage, zarr_image
from histoboost.slides.images.base import reading, rgb_order
from histoboost.slides.scale import checked_scale

#: Units of NGFF in micrometres.
UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder has the NGFF metadata of an image."""
    import zarr

    if not any((path / name).is_file() for name in ("zarr.json", ".zattrs")):
        return False
    with reading(path):
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    return "multiscales" in (attributes.get("ome") or attributes)


def open_ome_zarr(path: Path) -> StoredImage:
    """Open the first image of an OME-Zarr folder with all its levels."""
    import zarr

    with reading(path, "an OME-Zarr image"):
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
        attributes = attributes.get("ome", attributes)
        (multiscales, *_) = attributes["multiscales"]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscales["axes"]]
        names = [
            str(one.get("label", "")) for one in attributes.get("omero", {}).get("channels", [])
        ]
        order = rgb_order(names)
        arrays = [str(one["path"]) for one in multiscales["datasets"]]
        um = _um_per_px(axes, multiscales)
    if order is None and names != [str(i) for i in range(len(names))]:
        raise BadInput(f"{path}: has the channels {', '.join(names)}; an H&E image has R, G and B")
    letters = "".join(axis["name"] for axis in axes)
    return zarr_image(path, arrays, letters, order, checked_scale(um, path))


def _um_per_px(axes: list[dict[str, Any]], multiscales: dict[str, Any]) -> float | None:
    """Micrometres per pixel of the finest level; None if the axes have no unit of length."""
    at = [axis["name"] for axis in axes].index("x")
    um = UM.get(axes[at].get("unit", ""))
    if um is None:
        return None
    steps = multiscales["datasets"][0].get("coordinateTransformations", [])
    for step in [*steps, *multiscales.get("coordinateTransformations", [])]:
        if step["type"] == "scale":
            um *= float(step["scale"][at])
    return um
