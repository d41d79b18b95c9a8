"""TIFF files by tifffile, whole-slide files by OpenSlide: both in bands of rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError
from histoboost.slides.images.base import over_white

#: Decoded bytes of a band, or one row of tiles where that is more.
BAND_BYTES = 32 * 2**20

#: OME metadata may name other files; only the one that was given is read.
ALONE: dict[str, Any] = {"_multifile": False}

MISSING = "{path}: {what} need {library}; pip install 'histoboost[wsi]'"


@dataclass(frozen=True)
class TiffImage:
    """The first image of a TIFF file, at full resolution.

    Attributes
    ----------
    axes : str
        Order of the stored axes: ``"YXS"`` (interleaved) or ``"SYX"`` / ``"CYX"`` (planes).
    um_per_px : float or None
        From OME metadata; the resolution tags are not trusted, most writers leave 72 dpi there.
    """

    path: Path
    shape: tuple[int, int]
    axes: str
    band_rows: int
    um_per_px: float | None
    source_dtype: str = "uint8"

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8."""
        import tifffile
        import zarr

        try:
            with (
                tifffile.TiffFile(self.path, **ALONE) as tiff,
                tiff.series[0].aszarr(level=0) as store,
            ):
                stored = cast(Any, zarr.open_array(store, mode="r"))
                if self.axes[0] == "Y":
                    pixels = stored[start:stop]
                else:
                    pixels = np.moveaxis(stored[:, start:stop], 0, -1)
        except (OSError, ValueError, RuntimeError, KeyError, IndexError, zlib.error) as error:
            raise _damaged(self.path, error) from error
        return over_white(np.ascontiguousarray(pixels))


@dataclass(frozen=True)
class OpenSlideImage:
    """Level 0 of a whole-slide file."""

    path: Path
    shape: tuple[int, int]
    band_rows: int
    um_per_px: float | None
    source_dtype: str = "uint8"

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8.

        Regions that the scanner left out are white.
        """
        import openslide

        if stop <= start:
            return np.empty((0, self.shape[1], 3), np.uint8)
        try:
            with openslide.OpenSlide(self.path) as slide:
                region = slide.read_region((0, start), 0, (self.shape[1], stop - start))
        except openslide.OpenSlideError as error:
            raise _damaged(self.path, error) from error
        return over_white(np.asarray(region))


def open_tiff(path: Path) -> TiffImage:
    """Open a TIFF file: plain, BigTIFF, OME or pyramidal.

    Raises
    ------
    HistoboostError
        If the file is damaged or not 8-bit RGB, or tifffile is not installed.
    """
    try:
        import tifffile
    except ImportError as error:
        raise BadInput(MISSING.format(path=path, what="TIFF files", library="tifffile")) from error
    try:
        with tifffile.TiffFile(path, **ALONE) as tiff:
            level = tiff.series[0].levels[0]
            page = level.keyframe
            shape, axes, dtype = level.shape, level.axes, level.dtype
            rows = page.tilelength if page.is_tiled else page.rowsperstrip
            um = _ome_um_per_px(tiff.ome_metadata) if tiff.is_ome else None
    except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise _damaged(path, error) from error
    channels = {"YXS": shape[-1], "SYX": shape[0], "CYX": shape[0]}.get(axes)
    if channels not in (3, 4) or dtype != np.uint8:
        raise BadInput(
            f"{path}: stores {dtype} with axes {axes} of lengths {tuple(shape)}; "
            "an H&E image must be 8-bit RGB"
        )
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    return TiffImage(
        path=path.resolve(),
        shape=(int(height), int(width)),
        axes=axes,
        band_rows=_band_rows(int(height), int(width), int(rows or height)),
        um_per_px=um,
    )


def open_wsi(path: Path) -> OpenSlideImage:
    """Open a whole-slide file of any vendor that OpenSlide knows.

    Raises
    ------
    HistoboostError
        If the file is damaged or unknown, or OpenSlide is not installed.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the bindings without the library
        raise BadInput(
            MISSING.format(path=path, what="whole-slide files", library="OpenSlide")
        ) from error
    try:
        with openslide.OpenSlide(path) as slide:
            width, height = slide.dimensions
            tile = int(slide.properties.get("openslide.level[0].tile-height", 1))
            um = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error
    return OpenSlideImage(
        path=path.resolve(),
        shape=(height, width),
        band_rows=_band_rows(height, width, tile),
        um_per_px=float(um) if um else None,
    )


def _band_rows(height: int, width: int, tile: int) -> int:
    return min(height, tile * max(1, BAND_BYTES // (3 * width * tile)))


def _ome_um_per_px(metadata: str | None) -> float | None:
    import tifffile

    try:
        image = tifffile.xml2dict(metadata or "")["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        if pixels.get("PhysicalSizeXUnit", "µm") in ("µm", "um"):
            return float(pixels["PhysicalSizeX"])
    except (KeyError, TypeError, ValueError, SyntaxError):
        pass  # a file without this entry has no known scale
    return None


def _damaged(path: Path, error: Exception) -> HistoboostError:
    return BadInput(
        f"{path}: cannot be read as an image ({error}); the file is damaged or of another format, "
        "fetch it again"
    )
