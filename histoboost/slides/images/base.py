"""Image files: `open_image` tells them by their suffix."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.slide import SlideImage

if TYPE_CHECKING:
    from PIL import Image

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")
#: What Pillow may take such a file for: of others, some start programs (Ghostscript).
FORMATS = ("PNG", "JPEG")
TIFF_SUFFIXES = (".tif", ".tiff", ".btf")
WSI_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi")
IMAGE_SUFFIXES = (*RASTER_SUFFIXES, *TIFF_SUFFIXES, *WSI_SUFFIXES)


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
    if suffix in RASTER_SUFFIXES:
        return _raster(path)
    if suffix in TIFF_SUFFIXES:
        from histoboost.slides.images.tiff import open_tiff

        return open_tiff(path)
    if suffix in WSI_SUFFIXES:
        from histoboost.slides.images.tiff import open_wsi

        return open_wsi(path)
    raise BadInput(
        f"{path}: an image of unknown format {suffix!r}; give {', '.join(IMAGE_SUFFIXES)}"
    )


@dataclass(frozen=True)
class RasterImage:
    """A PNG or JPEG file; one band, because such a file can only be decoded from its start."""

    path: Path
    shape: tuple[int, int]
    source_dtype: str = "uint8"

    @property
    def band_rows(self) -> int:
        """All rows."""
        return self.shape[0]

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8."""
        with _pillow(self.path) as image:
            region = image.crop((0, start, self.shape[1], stop))
            return over_white(np.asarray(region.convert(_mode(image))))


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (h, w, 4) pixels with opacity over white; (h, w, 3) pixels pass unchanged."""
    if pixels.shape[-1] == 3:
        return pixels
    opacity = pixels[..., 3:].astype(np.uint16)
    mixed = (pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed.astype(np.uint8)


def _raster(path: Path) -> RasterImage:
    with _pillow(path) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise BadInput(f"{path}: pixels are of mode {image.mode}; store 8-bit RGB")
        return RasterImage(path.resolve(), (image.height, image.width))


def _mode(image: Image.Image) -> str:
    has_opacity = image.mode == "RGBA" or "transparency" in image.info
    return "RGBA" if has_opacity else "RGB"


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    try:
        # A slide is larger than what Pillow takes for an attack.
        Image.MAX_IMAGE_PIXELS = None
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            yield image
    except (OSError, SyntaxError) as error:
        raise BadInput(
            f"{path}: cannot be read as an image ({error}); the file is damaged, fetch it again"
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
