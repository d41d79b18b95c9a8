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
from histoboost.slides.images.base import over_white, reading

if TYPE_CHECKING:
    from PIL import Image

#: What Pillow may take such a file for: of others, some start programs (Ghostscript).
FORMATS = ("PNG", "JPEG")


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
            opacity = image.mode == "RGBA" or "transparency" in image.info
            region = image.crop((0, start, self.shape[1], stop))
            return over_white(np.asarray(region.convert("RGBA" if opacity else "RGB")))


def open_raster(path: Path) -> RasterImage:
    """Open a PNG or JPEG file.

    Raises
    ------
    HistoboostError
        If the file is damaged or not 8-bit RGB.
    """
    with _pillow(path) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise BadInput(f"{path}: pixels are of mode {image.mode}; store 8-bit RGB")
        return RasterImage(path.resolve(), (image.height, image.width))


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    try:
        # A slide is larger than what Pillow takes for an attack.
        Image.MAX_IMAGE_PIXELS = None
        with reading(path), warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit
