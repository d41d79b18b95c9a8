"""Slides downsampled to a coarser resolution, tile by tile."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoboost.slides.images.base import Level, SlideImage, coarsest, paste
from histoboost.slides.slide import Slide

#: Side of the tiles that are resized at once; pixels do not depend on the region requested.
TILE = 512

#: Pixels of the result on either side that the Lanczos filter uses.
SUPPORT = 3


class Resampled(SlideImage):
    """An image downsampled by `factor` with a Lanczos filter.

    Of the antialiasing filters it best preserves what the coarser grid can show, so a slide looks
    as if scanned at that resolution.
    """

    def __init__(self, image: SlideImage, factor: float) -> None:
        self._image, self._factor = image, factor
        self.files, self.path = image.files, getattr(image, "path", None)
        height, width = (max(1, int(side / factor)) for side in image.shape)
        self.levels = (Level(height, width),)
        self.tiles = ((min(TILE, height), min(TILE, width)),)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `SlideImage`."""
        out = np.empty((height, width, 3), np.uint8)
        for top in range(y - y % TILE, y + height, TILE):
            for left in range(x - x % TILE, x + width, TILE):
                paste(out, self._tile(left, top), top - y, left - x, (TILE, TILE))
        return out

    def _tile(self, left: int, top: int) -> NDArray[np.uint8]:
        level, (rows, columns, downsample) = coarsest(
            self._image.levels, lambda one: one.downsample <= self._factor
        )
        scale, whole = self._factor / downsample, self.levels[0]
        size = min(TILE, whole.width - left), min(TILE, whole.height - top)
        box, spans = [], []
        for start, count, end in zip((left, top), size, (columns, rows), strict=True):
            first, last = start * scale, min((start + count) * scale, end)
            span = max(0, int(first - SUPPORT * scale) - 1), math.ceil(last + SUPPORT * scale) + 1
            spans.append((span[0], min(span[1], end)))
            box.append((first - span[0], last - span[0]))
        (x, right), (y, bottom) = spans
        source = self._image.read_region(level, x, y, right - x, bottom - y)
        corners = (box[0][0], box[1][0], box[0][1], box[1][1])
        resized = Image.fromarray(source).resize(size, Image.Resampling.LANCZOS, box=corners)
        return np.asarray(resized)


def at_resolution(slide: Slide, um_per_px: float) -> Slide:
    """Downsample a slide to a coarser `um_per_px`; its spot table stays that of the source."""
    assert slide.um_per_px is not None
    factor = um_per_px / slide.um_per_px
    image = Resampled(slide.image, factor)
    return replace(slide, image=image, xy=slide.xy / factor, um_per_px=um_per_px, source=slide)
