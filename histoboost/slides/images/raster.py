"""PNG and JPEG files, by Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.images.base import (
    FileImage,
    Level,
    check_size,
    over_white,
    reading,
    warn_of_orientation,
)

if TYPE_CHECKING:
    from PIL import Image

#: Formats that Pillow may decode: some others start programs (Ghostscript).
FORMATS = ("PNG", "JPEG")

#: Most bytes of text and colour profiles in a PNG.
MAX_NOTES = 64 * 2**20

#: Most pixels per byte in a PNG, and in a JPEG unless it is blank.
MAX_INFLATED = 1032

#: EXIF tag for the orientation.
ORIENTATION = 274


class RasterImage(FileImage):
    """A PNG or JPEG file, as one tile: it can only be decoded from the start."""

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Decode the whole image and crop, see `SlideImage`."""
        with _pillow(self.path) as image:
            opacity = image.mode == "RGBA" or "transparency" in image.info
            region = image.crop((x, y, x + width, y + height))
            return over_white(np.asarray(region.convert("RGBA" if opacity else "RGB")))


def open_raster(path: Path) -> RasterImage:
    """Open a PNG or JPEG file; refuse one that is not 8-bit RGB."""
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
        if "exif" in image.info:  # otherwise Pillow decodes the whole image to find it
            warn_of_orientation(path, image.getexif().get(ORIENTATION))
        return RasterImage(path=path.resolve(), levels=(Level(*shape),), tiles=(shape,))


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image]:
    from PIL import Image, PngImagePlugin

    # Slides and their metadata exceed the sizes that Pillow takes for an attack.
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
