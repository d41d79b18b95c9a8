"""Thumbnails of slides, for maps and for stores without the images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest


def thumbnail(image: SlideImage, long_side: int = 768) -> NDArray[np.uint8]:
    """Downsample a slide to (h, w, 3) with at most `long_side` pixels along its long side.

    Averages k x k blocks, with the smallest sufficient integer k, of the coarsest level that has
    at least `long_side` pixels.
    """
    level, (height, width, _) = coarsest(image.levels, lambda one: max(one[:2]) >= long_side)
    k = math.ceil(max(height, width) / long_side)
    if k <= 1:
        return image.read_region(level, 0, 0, width, height).copy()
    return shrunk(image, level, k)


def shrunk(image: SlideImage, level: int, k: int) -> NDArray[np.uint8]:
    """Mean of every k x k block of a level, read in bands; border blocks may be smaller."""
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
