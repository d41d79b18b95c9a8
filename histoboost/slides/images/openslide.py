"""Whole-slide files of any vendor that OpenSlide knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, MissingExtra
from histoboost.slides.images.base import band_rows, over_white, reading
from histoboost.slides.images.tiff import load_tifffile
from histoboost.slides.scale import checked_scale

#: Pixels of a tile; those of scanners have 2**16.
MAX_TILE = 2**26


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
        with reading(self.path), openslide.OpenSlide(self.path) as slide:
            region = slide.read_region((0, start), 0, (self.shape[1], stop - start))
        return over_white(np.asarray(region))


def open_wsi(path: Path) -> OpenSlideImage:
    """Open a whole-slide file.

    Raises
    ------
    HistoboostError
        If the file is damaged or unknown, or OpenSlide is not installed.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the bindings without the library
        raise MissingExtra(str(path), "OpenSlide", "wsi") from error
    _check_tiles(path)
    with reading(path), openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        tile = int(slide.properties.get("openslide.level[0].tile-height", 1))
        um = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        if slide.properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff":
            um = None  # from the resolution tags, where most writers leave 72 dpi
    return OpenSlideImage(
        path=path.resolve(),
        shape=(height, width),
        band_rows=band_rows(path, (height, width), tile),
        um_per_px=checked_scale(um, path),
    )


def _check_tiles(path: Path) -> None:
    """Refuse tiles for which OpenSlide would ask for so much memory that it ends the process."""
    with path.open("rb") as file:
        if file.read(2) not in (b"II", b"MM"):
            return  # no TIFF
    with reading(path), load_tifffile().TiffFile(path) as tiff:
        tiled = [page for page in tiff.pages if page.is_tiled]
        largest = max((int(page.tilewidth) * int(page.tilelength) for page in tiled), default=0)
    if largest > MAX_TILE:
        raise BadInput(
            f"{path}: declares tiles of {largest} px; the file is damaged, fetch it again"
        )
