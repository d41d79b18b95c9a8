"""TIFF files by tifffile, in bands of rows."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, MissingExtra
from histoboost.slides.images.base import (
    band_rows,
    over_white,
    reading,
    rgb_order,
    warn_of_orientation,
)
from histoboost.slides.scale import checked_scale

#: OME metadata may name other files; only the one that was given is read.
ALONE: dict[str, Any] = {"_multifile": False}

#: Values of the tags for colours, compression and extra samples.
MINISBLACK, RGB, YCBCR = 1, 2, 6
JPEG = (6, 7)
ASSOCIATED, UNASSOCIATED = 1, 2

#: Micrometres in the units of OME; a micro sign or a Greek mu.
UM = {"\xb5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True)
class TiffImage:
    """The first image of a TIFF file, at full resolution.

    Attributes
    ----------
    axes : str
        Order of the stored axes: ``"YXS"`` (interleaved) or ``"SYX"`` / ``"CYX"`` (planes).
    premultiplied : bool
        Whether colours are multiplied by their opacity already.
    um_per_px : float or None
        From OME metadata; the resolution tags are not trusted, most writers leave 72 dpi there.
    """

    path: Path
    shape: tuple[int, int]
    axes: str
    band_rows: int
    um_per_px: float | None
    premultiplied: bool
    source_dtype: str = "uint8"

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8."""
        import zarr

        with (
            reading(self.path),
            load_tifffile().TiffFile(self.path, **ALONE) as tiff,
            tiff.series[0].aszarr(level=0) as store,
        ):
            stored = cast(Any, zarr.open_array(store, mode="r"))
            if self.axes[0] == "Y":
                pixels = stored[start:stop]
            else:
                pixels = np.moveaxis(stored[:, start:stop], 0, -1)
            pixels = np.ascontiguousarray(pixels)
        return over_white(pixels, premultiplied=self.premultiplied)


def open_tiff(path: Path) -> TiffImage:
    """Open a TIFF file: plain, BigTIFF, OME or pyramidal.

    Raises
    ------
    HistoboostError
        If the file is damaged or not 8-bit RGB, or tifffile is not installed.
    """
    try:
        tifffile = load_tifffile()
    except ImportError as error:
        raise MissingExtra(str(path), "tifffile", "wsi") from error
    with reading(path), tifffile.TiffFile(path, **ALONE) as tiff:
        level = tiff.series[0].levels[0]
        page = level.keyframe
        shape, axes, dtype = tuple(level.shape), level.axes, level.dtype
        stored_rows = page.tilelength if page.is_tiled else page.rowsperstrip
        um, names = _ome(tiff.ome_metadata) if tiff.is_ome else (None, [])
        orientation = page.tags.get(274)
        colours = _colours(page, names)
        there, expected = len(page.dataoffsets), math.prod(page.chunked)
    if axes not in ("YXS", "YXC", "SYX", "CYX") or dtype != np.uint8:
        raise BadInput(
            f"{path}: stores {dtype} with axes {axes} of lengths {shape}; "
            "an H&E image must be 8-bit RGB"
        )
    samples = shape[axes.index("S" if "S" in axes else "C")]
    if colours is not None or samples not in (3, 4):
        raise BadInput(f"{path}: stores {colours or f'{samples} channels'}; save it as 8-bit RGB")
    if there < expected:
        raise BadInput(
            f"{path}: has {there} of the {expected} strips or tiles of {shape}; the file is "
            "damaged, fetch it again"
        )
    height, width = int(shape[axes.index("Y")]), int(shape[axes.index("X")])
    warn_of_orientation(path, orientation and int(orientation.value))
    return TiffImage(
        path=path.resolve(),
        shape=(height, width),
        axes=axes,
        band_rows=band_rows(path, (height, width), int(stored_rows or height)),
        um_per_px=checked_scale(um, path),
        premultiplied=ASSOCIATED in page.extrasamples,
    )


def load_tifffile() -> Any:
    """The library, silent."""
    import tifffile

    # What it says of a damaged file on the way to an exception, the exception says.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return tifffile


def _colours(page: Any, names: list[str]) -> str | None:
    """What the tags of a page say that it stores, where that is not RGB or RGBA."""
    kind = int(page.photometric)
    named_rgb = kind == MINISBLACK and rgb_order(names) == (0, 1, 2)
    # A decoder of JPEG gives RGB whatever the colours in the file.
    decoded = kind == YCBCR and int(page.compression) in JPEG
    if kind != RGB and not named_rgb and not decoded:
        return f"colours as {getattr(page.photometric, 'name', kind)}"
    extra = [int(sample) for sample in page.extrasamples]
    if not named_rgb and page.samplesperpixel > 3 and extra not in ([ASSOCIATED], [UNASSOCIATED]):
        return "a fourth channel that is no opacity by its tags"
    return None


def _ome(metadata: str | None) -> tuple[float | None, list[str]]:
    """Micrometres per pixel and names of the channels; a file may tell neither."""
    try:
        image = load_tifffile().xml2dict(metadata or "")["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    except (KeyError, TypeError, ValueError, SyntaxError):
        return None, []
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = [str(channel.get("Name", "")) for channel in channels]
    try:
        size = float(pixels["PhysicalSizeX"]) * UM[pixels.get("PhysicalSizeXUnit", "\xb5m")]
    except (KeyError, TypeError, ValueError):
        return None, names
    return size, names
