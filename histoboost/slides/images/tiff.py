"""TIFF files by tifffile, in bands of rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, MissingExtra
from histoboost.slides.images.base import band_rows, over_white, reading

#: OME metadata may name other files; only the one that was given is read.
ALONE: dict[str, Any] = {"_multifile": False}


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

        with (
            reading(self.path),
            tifffile.TiffFile(self.path, **ALONE) as tiff,
            tiff.series[0].aszarr(level=0) as store,
        ):
            stored = cast(Any, zarr.open_array(store, mode="r"))
            if self.axes[0] == "Y":
                pixels = stored[start:stop]
            else:
                pixels = np.moveaxis(stored[:, start:stop], 0, -1)
        return over_white(np.ascontiguousarray(pixels))


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
        raise MissingExtra(str(path), "tifffile", "wsi") from error
    with reading(path), tifffile.TiffFile(path, **ALONE) as tiff:
        level = tiff.series[0].levels[0]
        page = level.keyframe
        shape, axes, dtype = level.shape, level.axes, level.dtype
        rows = page.tilelength if page.is_tiled else page.rowsperstrip
        um = _ome_um_per_px(tiff.ome_metadata) if tiff.is_ome else None
    channels = {"YXS": shape[-1], "SYX": shape[0], "CYX": shape[0]}.get(axes)
    if channels not in (3, 4) or dtype != np.uint8:
        raise BadInput(
            f"{path}: stores {dtype} with axes {axes} of lengths {tuple(shape)}; "
            "an H&E image must be 8-bit RGB"
        )
    height, width = int(shape[axes.index("Y")]), int(shape[axes.index("X")])
    return TiffImage(
        path=path.resolve(),
        shape=(height, width),
        axes=axes,
        band_rows=band_rows(height, int(rows or height), 3 * width),
        um_per_px=um,
    )


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
