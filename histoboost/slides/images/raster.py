"""PNG and JPEG files by Pillow."""

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
from histoboost.slides.images.base import (
    Level,
    SlideImage,
    check_size,
    over_white,
    reading,
    warn_of_orientation,
)

if TYPE_CHECKING:
    from PIL import Image

#: What Pillow may take such a file for: of others, some start programs (Ghostscript).
FORMATS = ("PNG", "JPEG")

#: Bytes of notes and colour profiles in a PNG.
MAX_NOTES = 64 * 2**20

#: No PNG holds more pixels in a byte; a JPEG may hold a few of these if it is blank.
MAX_INFLATED = 1032

#: The tag by which cameras and viewers say that an image is to be turned.
ORIENTATION = 274


@dataclass(frozen=True)
class RasterImage(SlideImage):
    """A PNG or JPEG file, one tile: such a file can only be decoded from its start."""

    path: Path
    levels: tuple[Level, ...]

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """All of it."""
        return (self.levels[0][:2],)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle, see `SlideImage`; decodes the whole image."""
        with _pillow(self.path) as image:
            opacity = image.mode == "RGBA" or "transparency" in image.info
            region = image.crop((x, y, x + width, y + height))
            return over_white(np.asarray(region.convert("RGBA" if opacity else "RGB")))


def open_raster(path: Path) -> RasterImage:
    """Open a PNG or JPEG file.

    Raises
    ------
    HistoboostError
        If the file is damaged or not 8-bit RGB.
    """
    with _pillow(path) as image:
        with path.open("rb") as file:
            head = file.read(25)
        if head.startswith(b"\x89PNG") and head[24] > 8:
            raise BadInput(f"{path}: stores {head[24]} bits per channel; save it as 8-bit RGB")
        if image.mode not in ("RGB", "RGBA", "P"):
            raise BadInput(f"{path}: pixels are of mode {image.mode}; save it as 8-bit RGB")
        shape = (image.height, image.width)
        check_size(path, shape, shape)
        if image.width * image.height > MAX_INFLATED * path.stat().st_size:
            raise BadInput(
                f"{path}: is too small for {image.width} x {image.height} px; "
                "the file is damaged, fetch it again"
            )
        if "exif" in image.info:  # without, Pillow decodes the whole image to look for it
            warn_of_orientation(path, image.getexif().get(ORIENTATION))
        return RasterImage(path.resolve(), (Level(*shape),))


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image]:
    from PIL import Image, PngImagePlugin

    # A slide, its colour profile and its notes are larger than what Pillow takes for an attack.
    limits = (
        (Image, "MAX_IMAGE_PIXELS", None),
        (PngImagePlugin, "MAX_TEXT_CHUNK", MAX_NOTES),
        (PngImagePlugin, "MAX_TEXT_MEMORY", MAX_NOTES),
    )
    before = [getattr(module, name) for module, name, _ in limits]
    try:
        for module, name, value in limits:
            setattr(module, name, value)
        with reading(path), warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            yield image
    finally:
        for (module, name, _), value in zip(limits, before, strict=True):
            setattr(module, name, value)
