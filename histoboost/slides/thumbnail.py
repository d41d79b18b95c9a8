"""A small picture of a slide, for maps and for stores that travel without the slide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest


def thumbnail(image: SlideImage, long_side: int = 768) -> NDArray[np.uint8]:
    """The slide, averaged down to (h, w, 3) whose long side has at most `long_side` pixels.

    Blocks of k x k pixels of the coarsest level that has as many are averaged (k the smallest
    integer that fits), in bands of rows, so that a large slide is never in memory as a whole. A
    last block that is cut off by the border is averaged over what is there.
    """
    level, (height, width, _) = coarsest(image.levels, lambda one: max(one[:2]) >= long_side)
    k = math.ceil(max(height, width) / long_side)
    if k <= 1:
        return image.read_region(level, 0, 0, width, height).copy()
    return shrunk(image, level, k)


def shrunk(image: SlideImage, level: int, k: int) -> NDArray[np.uint8]:
    """Means of blocks of k x k pixels of a level, as `thumbnail` takes them."""
    height, width, _ = image.levels[level]
    columns = np.arange(0, width, k)
    wide = np.diff(np.append(columns, width))
    out = np.empty((math.ceil(height / k), len(columns), 3), dtype=np.uint8)
    for start, rows in bands(image, level, multiple=k):
        for top in range(0, len(rows), k):
            block = rows[top : top + k]
            sums = np.add.reduceat(block.sum(axis=0, dtype=np.uint32), columns, axis=0)
            out[(start + top) // k] = np.round(sums / (len(block) * wide[:, None]))
    return out
