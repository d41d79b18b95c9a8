"""Images stored as arrays, in memory, zarr or HDF5: uint8, or floats in 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.images.base import band_rows, over_white, reading

#: How far a float pixel may lie beyond 0..1 by rounding alone.
ROUNDING = 1e-4


@dataclass(frozen=True)
class ArrayImage:
    """An image that is in memory already.

    Attributes
    ----------
    pixels : ndarray of shape (H, W, 3), uint8
    source_dtype : str
        Type that the pixels had in their source.
    """

    pixels: NDArray[np.uint8]
    source_dtype: str = "uint8"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def band_rows(self) -> int:
        """All rows: they lie in memory together."""
        return int(self.pixels.shape[0])

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive), a view of (stop - start, W, 3) uint8."""
        return self.pixels[start:stop]


@dataclass(frozen=True)
class StoredImage:
    """An RGB or RGBA image in an array of a zarr store (a folder) or an HDF5 file.

    Attributes
    ----------
    array : str
        Its name in there.
    axes : str
        ``"yxc"`` or ``"cyx"``.
    channels : tuple of int, or None
        Where red, green, blue (and alpha) lie; None: in this order.
    """

    path: Path
    array: str
    axes: str
    shape: tuple[int, int]
    source_dtype: str
    band_rows: int
    channels: tuple[int, ...] | None = None

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8.

        Raises
        ------
        HistoboostError
            If the file cannot be read, or float pixels lie outside 0..1.
        """
        out = np.empty((stop - start, self.shape[1], 3), np.uint8)
        where = f"{self.path}: {self.array}"
        with reading(where):
            # Band by band: the floats of a whole slide are four times its uint8 pixels.
            first = start
            while first < stop:
                last = min(stop, (first // self.band_rows + 1) * self.band_rows)
                pixels = self._rows(first, last)
                out[first - start : last - start] = over_white(to_uint8(pixels, where))
                first = last
        return out

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        index = np.s_[start:stop] if self.axes[0] == "y" else np.s_[:, start:stop]
        if self.path.is_dir():
            import zarr

            pixels = cast(Any, zarr.open_array(self.path / self.array, mode="r"))[index]
        else:
            with open_hdf5(self.path) as file:
                pixels = file[self.array][index]
        pixels = np.asarray(pixels) if self.axes[0] == "y" else np.moveaxis(pixels, 0, -1)
        return pixels if self.channels is None else pixels[..., list(self.channels)]


def zarr_image(
    path: Path, name: str, axes: str = "yxc", channels: tuple[int, ...] | None = None
) -> StoredImage:
    """The image in the zarr array `name` of the store at `path`.

    Raises
    ------
    HistoboostError
        If there is no such array, or it is not RGB of uint8 or floats.
    """
    import zarr

    with reading(f"{path}: {name}"):
        stored: Any = zarr.open_array(path / name, mode="r")
    return _stored(path, name, stored, axes, channels)


def hdf5_image(path: Path, dataset: h5py.Dataset) -> StoredImage:
    """The image in one dataset of the HDF5 file at `path`.

    Raises
    ------
    HistoboostError
        If it is not RGB of uint8 or floats.
    """
    return _stored(path, dataset.name.strip("/"), dataset, "yxc", None)


def _stored(
    path: Path, name: str, stored: Any, axes: str, channels: tuple[int, ...] | None
) -> StoredImage:
    shape, dtype = tuple(stored.shape), stored.dtype
    right = len(shape) == 3 and shape[axes.index("c")] in (3, 4) and 0 not in shape
    if not right or (dtype != np.uint8 and dtype.kind != "f"):
        raise BadInput(
            f"{path}: {name} has type {dtype} and shape {shape}; an H&E image must be "
            "(H, W, 3), RGB, uint8 or floats in 0..1"
        )
    rows = axes.index("y")
    height, width = int(shape[rows]), int(shape[axes.index("x")])
    chunk_rows = stored.chunks[rows] if stored.chunks else 1
    return StoredImage(
        path=path.resolve(),
        array=name,
        axes=axes,
        shape=(height, width),
        source_dtype=str(dtype),
        band_rows=band_rows(f"{path}: {name}", (height, width), chunk_rows, dtype.itemsize),
        channels=channels,
    )


def to_uint8(pixels: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Floats in 0..1 as ``round(255 * value)``; uint8 passes unchanged.

    Raises
    ------
    HistoboostError
        If a float lies outside 0..1 or is NaN; the line begins with `where`.
    """
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8, copy=False)
    low, high = float(np.min(pixels)), float(np.max(pixels))
    if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):  # true for NaN as well
        raise BadInput(
            f"{where}: float pixels must lie in 0..1 but reach from {low:g} to {high:g}; "
            "divide them by their maximum, or store uint8"
        )
    scaled = np.rint(pixels.astype(np.float32, copy=False) * np.float32(255))
    return cast(NDArray[np.uint8], scaled.clip(0, 255).astype(np.uint8))
