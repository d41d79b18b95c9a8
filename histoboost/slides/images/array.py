"""Images stored as arrays in memory, zarr or HDF5: uint8, or floats in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.images.base import (
    BAND_BYTES,
    FileImage,
    Level,
    SlideImage,
    check_size,
    over_white,
    pyramid,
    reading,
)

#: Rounding error allowed for float pixels outside 0..1.
ROUNDING = 1e-4


class ArrayImage(SlideImage):
    """An image in memory: `pixels` (H, W, 3) uint8, which had `source_dtype` in their source."""

    def __init__(self, pixels: NDArray[np.uint8], source_dtype: str = "uint8") -> None:
        self.pixels, self.source_dtype = pixels, source_dtype
        self.levels = (Level(*pixels.shape[:2]),)
        self.tiles = (self.levels[0][:2],)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """View of a rectangle, see `SlideImage`."""
        return self.pixels[y : y + height, x : x + width]


@dataclass(frozen=True, kw_only=True)
class StoredImage(FileImage):
    """An RGB or RGBA image in arrays of a zarr store (a folder), or in one of an HDF5 file."""

    #: Name of the array of every level.
    arrays: tuple[str, ...]
    #: ``"yxc"`` or ``"cyx"``; further axes, such as t and z of ``"tczyx"``, have length 1.
    axes: str
    source_dtype: str
    #: Positions of red, green, blue (and alpha); None for this order.
    channels: tuple[int, ...] | None = None

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `SlideImage`."""
        out = np.empty((height, width, 3), np.uint8)
        where = f"{self.path}: {self.arrays[level]}"
        with reading(where):
            # Row of tiles by row of tiles: floats take four times the memory of uint8.
            rows = self.tiles[level][0]
            step, top = rows * max(1, BAND_BYTES // (12 * max(width, 1) * rows)), y
            while top < y + height:
                stop = min((top // step + 1) * step, y + height)
                pixels = self._read(level, {"y": slice(top, stop), "x": slice(x, x + width)})
                out[top - y : stop - y] = over_white(_to_uint8(pixels, where))
                top = stop
        return out

    def _read(self, level: int, part: dict[str, slice]) -> NDArray[Any]:
        index = tuple(part.get(axis, slice(None) if axis == "c" else 0) for axis in self.axes)
        if self.path.is_dir():
            pixels = np.asarray(_open_zarr(self.path / self.arrays[level])[index])
        else:
            with open_hdf5(self.path) as file:
                pixels = file[self.arrays[level]][index]
        kept = [axis for axis in self.axes if axis in "yxc"]
        pixels = np.transpose(pixels, [kept.index(axis) for axis in "yxc"])
        return pixels if self.channels is None else pixels[..., list(self.channels)]


def zarr_image(
    path: Path,
    names: str | Sequence[str],
    axes: str = "yxc",
    channels: tuple[int, ...] | None = None,
    um_per_px: float | None = None,
) -> StoredImage:
    """Open the zarr arrays `names`, one per level, of the store at `path`."""
    path = path.resolve()
    names = (names,) if isinstance(names, str) else tuple(names)
    with reading(f"{path}: {names[0]}"):
        arrays = [_open_zarr(path / name) for name in names]
    return _stored(path, names, arrays, axes, channels, um_per_px, tuple(path / n for n in names))


def hdf5_image(path: Path, dataset: h5py.Dataset) -> StoredImage:
    """Open a dataset of the HDF5 file at `path`."""
    return _stored(path.resolve(), (dataset.name.strip("/"),), [dataset], "yxc")


def _open_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")


def _stored(
    path: Path,
    names: tuple[str, ...],
    arrays: Sequence[Any],
    axes: str,
    channels: tuple[int, ...] | None = None,
    um_per_px: float | None = None,
    files: tuple[Path, ...] = (),
) -> StoredImage:
    shapes, tiles = [], []
    for name, stored in zip(names, arrays, strict=True):
        lengths, dtype = dict(zip(axes, stored.shape, strict=False)), stored.dtype
        alone = all(lengths.get(axis) == 1 for axis in set(axes) - set("yxc"))
        right = len(stored.shape) == len(axes) and alone and lengths.get("c") in (3, 4)
        if not right or 0 in stored.shape or (dtype != np.uint8 and dtype.kind != "f"):
            raise BadInput(
                f"{path}: {name} has type {dtype} and shape {tuple(stored.shape)}; an H&E image "
                "must be (H, W, 3), RGB, uint8 or floats in 0..1"
            )
        rows, columns = axes.index("y"), axes.index("x")
        shapes.append((int(stored.shape[rows]), int(stored.shape[columns])))
        height, width = shapes[-1]
        chunk = (stored.chunks[rows], stored.chunks[columns]) if stored.chunks else (1, width)
        tiles.append((min(int(chunk[0]), height), min(int(chunk[1]), width)))
        check_size(f"{path}: {name}", shapes[-1], tiles[-1], dtype.itemsize)
    return StoredImage(
        path=path,
        arrays=names,
        axes=axes,
        levels=pyramid(shapes),
        tiles=tuple(tiles),
        source_dtype=str(arrays[0].dtype),
        channels=channels,
        um_per_px=um_per_px,
        files=files,
    )


def _to_uint8(pixels: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Convert floats in 0..1 to ``round(255 * value)``; refuse others, also NaN."""
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8, copy=False)
    low, high = float(np.min(pixels)), float(np.max(pixels))
    if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):  # true for NaN as well
        raise BadInput(
            f"{where}: float pixels must lie in 0..1 but range from {low:g} to {high:g}; "
            "divide them by their maximum, or store uint8"
        )
    scaled = np.rint(pixels.astype(np.float32, copy=False) * np.float32(255))
    return cast(NDArray[np.uint8], scaled.clip(0, 255).astype(np.uint8))
