"""Images stored as arrays: pixels become uint8, and zarr arrays are read in bands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.images.base import over_white

#: Decoded bytes of a band, or one row of chunks where that is more.
BAND_BYTES = 16 * 2**20


def to_uint8(pixels: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Floats in 0..1 as ``round(255 * value)``; uint8 passes unchanged.

    Parameters
    ----------
    pixels : ndarray
        Of any shape.
    where : str
        File and array, for the message.

    Raises
    ------
    HistoboostError
        If a float lies outside 0..1 or is NaN.
    """
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8, copy=False)
    low, high = float(np.min(pixels)), float(np.max(pixels))
    if not (low >= 0.0 and high <= 1.0):  # true for NaN as well
        raise BadInput(
            f"{where}: float pixels must lie in 0..1 but reach from {low:g} to {high:g}; "
            "divide them by their maximum, or store uint8"
        )
    scaled = np.rint(pixels.astype(np.float32, copy=False) * np.float32(255))
    return cast(NDArray[np.uint8], scaled.astype(np.uint8))


def band_rows(height: int, chunk_rows: int, row_bytes: int) -> int:
    """Rows of a band: whole rows of chunks, `BAND_BYTES` or so."""
    return min(height, chunk_rows * max(1, BAND_BYTES // (row_bytes * chunk_rows)))


@dataclass(frozen=True)
class ZarrImage:
    """An RGB image in a zarr array.

    Attributes
    ----------
    axes : str
        ``"yxc"`` or ``"cyx"``.
    """

    path: Path
    array: str
    axes: str
    shape: tuple[int, int]
    source_dtype: str
    band_rows: int

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8."""
        import zarr

        try:
            stored = cast(Any, zarr.open_array(self.path / self.array, mode="r"))
            if self.axes == "yxc":
                pixels = np.asarray(stored[start:stop])
            else:
                pixels = np.moveaxis(np.asarray(stored[:, start:stop]), 0, -1)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BadInput(
                f"{self.path}: {self.array}: pixels cannot be read ({error}); "
                "the file is damaged, fetch it again"
            ) from error
        return over_white(to_uint8(pixels, f"{self.path}: {self.array}"))


def zarr_image(path: Path, name: str, axes: str) -> ZarrImage:
    """The image in the zarr array `name` of the store at `path`.

    Raises
    ------
    HistoboostError
        If there is no such array, or it is not RGB of uint8 or floats.
    """
    import zarr

    try:
        stored = zarr.open_array(path / name, mode="r")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BadInput(
            f"{path}: {name}: no array of pixels ({error}); the file is incomplete"
        ) from error
    check_rgb(stored.shape, stored.dtype, axes, f"{path}: {name}")
    rows = axes.index("y")
    height, width = stored.shape[rows], stored.shape[axes.index("x")]
    return ZarrImage(
        path=path.resolve(),
        array=name,
        axes=axes,
        shape=(height, width),
        source_dtype=str(stored.dtype),
        band_rows=band_rows(height, stored.chunks[rows], width * 3 * stored.dtype.itemsize),
    )


def check_rgb(shape: tuple[int, ...], dtype: np.dtype[Any], axes: str, where: str) -> None:
    """Refuse an array that is no RGB image of uint8 or floats, with a line that names `where`."""
    right = len(shape) == 3 and shape[axes.index("c")] in (3, 4) and 0 not in shape
    if not right or (dtype != np.uint8 and dtype.kind != "f"):
        raise BadInput(
            f"{where}: stores {dtype} of shape {tuple(shape)}; an H&E image must be RGB, "
            "uint8 or floats in 0..1"
        )
