"""Find the image of the spots in a SpatialData; never guess among unrelated ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.images.array import StoredImage
from histoboost.slides.images.ome_zarr import open_ome_zarr


@dataclass(frozen=True)
class Candidate:
    """An image that shares a coordinate system with the spots.

    `inside` counts the spots on it; `matrix` (3, 3) maps their own system to its pixels.
    """

    inside: int
    name: str
    system: str
    image: StoredImage
    matrix: NDArray[np.float64]

    @property
    def corners(self) -> NDArray[np.float64]:
        """Upper left and lower right corner in the system of the spots."""
        height, width = self.image.shape
        ends = np.array([[0.0, 0.0], [width, height]])
        return moved(ends, np.asarray(np.linalg.inv(self.matrix), np.float64))


def image_under(
    data: Any,
    path: Path,
    region: str,
    regions: list[str],
    xy: NDArray[np.float64],
    wanted: str | None,
) -> Candidate:
    """Find the image of the spots `region`, at `xy` (N, 2) in their own system.

    `regions` are all elements of spots; `wanted` is an ``images/<name>`` to use. Refuses spots that
    share a coordinate system with no RGB image, or with several of which none is clearly theirs.
    """
    names = {f"images/{name}": name for name in data.images}
    where = f"{path}: {region}"
    if wanted is not None and wanted not in names:
        raise BadInput(f"{where}: no image {wanted!r}; there are {', '.join(names) or 'none'}")
    found, odd = _candidates(
        data, path, region, xy, [names[wanted]] if wanted else list(data.images)
    )
    # spatialdata-io calls the images of the spots A A_hires_image and the like.
    owners = {name: _owner(name, regions) for name in data.images}
    own = [one for one in found if wanted or owners[one.name] == region]
    if not own:
        own = [one for one in found if owners[one.name] is None]
        _check_link(data, where, region, regions, own)
    if not own:
        reason = f" ({odd[0]})" if odd else ""
        raise BadInput(
            f"{where}: shares no coordinate system with an image of its own in RGB{reason}; set "
            "a transformation of both to one system, or name the image in a manifest, image = "
            f"{next(iter(names), 'images/<name>')}"
        )
    return max(own, key=lambda one: (one.inside, one.image.shape[0] * one.image.shape[1], one.name))


def moved(xy: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply an affine transformation (3, 3) to points (N, 2)."""
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


def _candidates(
    data: Any, path: Path, region: str, xy: NDArray[np.float64], names: list[str]
) -> tuple[list[Candidate], list[str]]:
    """RGB images that share a system with the spots, and why others do not qualify."""
    from spatialdata.transformations import get_transformation

    spots = get_transformation(data.shapes[region], get_all=True)
    found, odd = [], []
    for name in names:
        systems = get_transformation(data.images[name], get_all=True)
        shared = sorted(spots.keys() & systems.keys())
        image = _rgb_image(path, name) if shared else ""
        if isinstance(image, str):
            odd += [image] if image else []
            continue
        height, width = image.shape
        for system in shared:
            matrix = np.linalg.inv(_affine(systems[system])) @ _affine(spots[system])
            x, y = moved(xy, matrix).T
            inside = int(((x >= 0) & (y >= 0) & (x <= width) & (y <= height)).sum())
            found.append(Candidate(inside, name, system, image, matrix))
    return found, odd


def _owner(image: str, regions: list[str]) -> str | None:
    """The element of spots whose name is a prefix of that of the image."""
    named = [name for name in regions if image == name or image.startswith(f"{name}_")]
    return max(named, key=len, default=None)


def _check_link(
    data: Any, where: str, region: str, regions: list[str], found: list[Candidate]
) -> None:
    """Refuse images that may belong to other spots."""
    from spatialdata.transformations import get_transformation

    for other in regions:
        systems = get_transformation(data.shapes[other], get_all=True)
        shared = [one.name for one in found if one.system in systems]
        if other != region and shared:
            raise BadInput(
                f"{where}: image {shared[0]} may belong to {region} or to {other}, which share its "
                f"coordinate system; name it in a manifest, "
                f"image = images/{shared[0]}"
            )
    for one in found[1:]:
        first = found[0].corners
        if (np.abs(one.corners - first) > 0.05 * np.abs(np.ptp(first, axis=0))).any():
            raise BadInput(
                f"{where}: lies on the images {found[0].name} and {one.name} of different extent; "
                f"name one in a manifest, image = images/{found[0].name}"
            )


def _affine(transformation: Any) -> NDArray[np.float64]:
    axes = ("x", "y")
    return np.asarray(transformation.to_affine_matrix(axes, axes), dtype=np.float64)


def _rgb_image(path: Path, name: str) -> StoredImage | str:
    """Open an image, or return why it is not an H&E image."""
    try:
        return open_ome_zarr(path / "images" / name)
    except BadInput as error:
        return str(error)
