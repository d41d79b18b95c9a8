"""Pixels of a slide, one file per source; `open_image` tells image files by their suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from histoboost.errors import BadInput
from histoboost.slides.images.openslide import open_wsi
from histoboost.slides.images.raster import open_raster
from histoboost.slides.images.tiff import open_tiff
from histoboost.slides.slide import SlideImage

_WSI = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi")
_OPENERS: dict[str, Callable[[Path], SlideImage]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg"), open_raster),
    **dict.fromkeys((".tif", ".tiff", ".btf"), open_tiff),
    **dict.fromkeys(_WSI, open_wsi),
}
IMAGE_SUFFIXES = tuple(_OPENERS)


def open_image(path: Path) -> SlideImage:
    """Open an image file; its pixels are read later.

    Parameters
    ----------
    path : Path
        PNG or JPEG (decoded whole, these formats know no regions), TIFF (by tifffile, in strips
        or tiles) or a whole-slide file (by OpenSlide, level 0, in bands).

    Raises
    ------
    HistoboostError
        If the file is missing, damaged, not RGB, or its reader is not installed.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such image; check the path")
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        raise BadInput(
            f"{path}: an image of unknown format {suffix!r}; give {', '.join(IMAGE_SUFFIXES)}"
        )
    return _OPENERS[suffix](path)
