"""Whole-slide files of any vendor, by OpenSlide."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, MissingExtra
from histoboost.slides.images.base import (
    FileImage,
    check_size,
    over_white,
    pyramid,
    reading,
    version,
    warn_of_orientation,
)
from histoboost.slides.images.tiff import check_tile, load_tifffile
from histoboost.slides.scale import checked_scale

if TYPE_CHECKING:
    from openslide import OpenSlide

#: Compressions that OpenSlide decodes itself: JPEG and Aperio's two JPEG 2000.
DECODED = (7, 33003, 33005)


class OpenSlideImage(FileImage):
    """A whole-slide file; regions without tiles are white."""

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `SlideImage`."""
        if not width * height:
            return np.empty((height, width, 3), np.uint8)
        step = self.levels[level].downsample
        with reading(self.path):
            slide = _open(self.path, *version(self.path))
            corner = (round(x * step), round(y * step))
            return over_white(np.asarray(slide.read_region(corner, level, (width, height))))


def open_wsi(path: Path) -> OpenSlideImage:
    """Open a whole-slide file."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the bindings without the library
        raise MissingExtra(str(path), "OpenSlide", "wsi") from error
    path = path.resolve()
    _check_tags(path)
    with reading(path):
        slide = _open(path, *version(path))
        known = slide.properties
        levels = pyramid([(height, width) for width, height in slide.level_dimensions])
        tiles = tuple(
            (
                int(known.get(f"openslide.level[{at}].tile-height", 512)),
                int(known.get(f"openslide.level[{at}].tile-width", 512)),
            )
            for at in range(len(levels))
        )
    vendor, um = known.get(openslide.PROPERTY_NAME_VENDOR), known.get(openslide.PROPERTY_NAME_MPP_X)
    if vendor == "generic-tiff":
        um = None  # from resolution tags, which most writers leave at 72 dpi
    check_size(path, levels[0][:2], tiles[0])
    um_per_px, files = checked_scale(um, path), _files(path)
    return OpenSlideImage(path=path, levels=levels, tiles=tiles, um_per_px=um_per_px, files=files)


@lru_cache(maxsize=4)
def _open(path: Path, modified: int, size: int) -> OpenSlide:
    """Open this version of a file for all threads."""
    import openslide

    return openslide.OpenSlide(path)


def _files(path: Path) -> tuple[Path, ...]:
    """All files of a slide; some formats use several."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return path, path.with_suffix("")
    if suffix == ".dcm":
        return (path.parent,)
    if suffix in (".vms", ".vmu"):
        return tuple(sorted(one for one in path.parent.iterdir() if one.stem.startswith(path.stem)))
    return (path,)


def _check_tags(path: Path) -> None:
    """Refuse tiles so large that OpenSlide would crash the process.

    Also refuse orientation tags where OpenSlide decodes by libtiff, which turns every tile by
    itself.
    """
    with path.open("rb") as file:
        if file.read(2) not in (b"II", b"MM"):
            return  # not a TIFF
    with reading(path), load_tifffile().TiffFile(path) as tiff:
        tiled = [page for page in tiff.pages if page.is_tiled]
        largest = max((int(page.tilewidth) * int(page.tilelength) for page in tiled), default=0)
        turned = [page for page in tiled if int(page.tags.valueof(274, 1)) != 1]
        scrambled = any(page.compression not in DECODED for page in turned)
    check_tile(path, largest)
    if scrambled:
        raise BadInput(
            f"{path}: has an orientation tag, by which OpenSlide turns every tile by itself; save "
            "it upright and without the tag"
        )
    if turned:
        warn_of_orientation(path, int(turned[0].tags.valueof(274)))
