"""Slide images, one module per kind of source; `open_image` picks the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from histoboost.errors import BadInput
from histoboost.slides.images.base import SlideImage
from histoboost.slides.images.ome_zarr import is_ome_zarr, open_ome_zarr
from histoboost.slides.images.openslide import open_wsi
from histoboost.slides.images.raster import open_raster
from histoboost.slides.images.tiff import open_tiff, opens_as_tiff

_WSI = (".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm")
_OPENERS: dict[str, Callable[[Path], SlideImage]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg"), open_raster),
    **dict.fromkeys((".tif", ".tiff", ".btf"), open_tiff),
    ".svs": lambda path: (open_tiff if opens_as_tiff(path) else open_wsi)(path),
    **dict.fromkeys(_WSI, open_wsi),
}
IMAGE_SUFFIXES = tuple(_OPENERS)


def open_image(path: Path) -> SlideImage:
    """Open an image lazily; refuse one that is missing, damaged or not RGB.

    PNG and JPEG (always decoded as a whole), TIFF and Aperio's SVS (by tifffile), other whole-slide
    files and DICOM folders (by OpenSlide), and OME-Zarr folders.
    """
    if path.is_dir():
        if dicom := min(path.glob("*.dcm"), default=None):
            return open_wsi(dicom)
        if is_ome_zarr(path):
            return open_ome_zarr(path)
        raise BadInput(f"{path}: a folder that is not an image; give an OME-Zarr or a DICOM folder")
    if not path.is_file():
        raise BadInput(f"{path}: no such image; check the path")
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        raise BadInput(
            f"{path}: an image of unknown format {suffix!r}; give {', '.join(IMAGE_SUFFIXES)}"
        )
    return _OPENERS[suffix](path)
