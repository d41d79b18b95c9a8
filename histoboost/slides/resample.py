"""A slide at a coarser resolution: read by tiles, each resized from what lies about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import Level, SlideImage, coarsest, paste
from histoboost.slides.slide import Slide

#: Side of the tiles that are resized together; the result does not depend on what is asked for.
TILE = 512

#: Pixels of the result on either side that Lanczos's filter looks at.
SUPPORT = 3


@dataclass(frozen=True)
class Resampled(SlideImage):
    """An image whose pixels are `factor` times as wide as those of `image`, by Lanczos's filter.

    Of all antialiasing filters it keeps most of what the coarser grid can show, so that a slide
    looks as it would have looked if it had been scanned at that resolution.
    """

    image: SlideImage
    factor: float

    @property
    def levels(self) -> tuple[Level, ...]:  # type: ignore[override]
        """One."""
        height, width = self.image.shape
        return (Level(max(1, int(height / self.factor)), max(1, int(width / self.factor))),)

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """Of `TILE` pixels a side."""
        height, width, _ = self.levels[0]
        return ((min(TILE, height), min(TILE, width)),)

    @property
    def files(self) -> tuple[Path, ...]:  # type: ignore[override]
        """Those of the finer image."""
        return self.image.files

    @property
    def path(self) -> Path | None:
        """That of the finer image."""
        return getattr(self.image, "path", None)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle, see `SlideImage`."""
        out = np.empty((height, width, 3), np.uint8)
        for top in range(y - y % TILE, y + height, TILE):
            for left in range(x - x % TILE, x + width, TILE):
                paste(out, self._tile(left, top), top - y, left - x, (TILE, TILE))
        return out

    def _tile(self, left: int, top: int) -> NDArray[np.uint8]:
        from PIL import Image

        level, (rows, columns, downsample) = coarsest(
            self.image.levels, lambda one: one.downsample <= self.factor
        )
        scale, whole = self.factor / downsample, self.levels[0]
        size = min(TILE, whole.width - left), min(TILE, whole.height - top)
        box, spans = [], []
        for start, count, end in zip((left, top), size, (columns, rows), strict=True):
            first, last = start * scale, min((start + count) * scale, end)
            span = max(0, int(first - SUPPORT * scale) - 1), math.ceil(last + SUPPORT * scale) + 1
            spans.append((span[0], min(span[1], end)))
            box.append((first - span[0], last - span[0]))
        (x, right), (y, bottom) = spans
        about = self.image.read_region(level, x, y, right - x, bottom - y)
        corners = (box[0][0], box[1][0], box[0][1], box[1][1])
        resized = Image.fromarray(about).resize(size, Image.Resampling.LANCZOS, box=corners)
        return np.asarray(resized)


def at_resolution(slide: Slide, um_per_px: float) -> Slide:
    """The slide brought to a coarser `um_per_px`; its spot table stays that of the source."""
    assert slide.um_per_px is not None
    factor = um_per_px / slide.um_per_px
    image = Resampled(slide.image, factor)
    return replace(slide, image=image, xy=slide.xy / factor, um_per_px=um_per_px, source=slide)
