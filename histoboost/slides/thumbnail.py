"""A small picture of a slide, for maps and for stores that travel without the slide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage

#: Most bytes that are read at a time.
BAND_BYTES = 16 * 2**20


def thumbnail(image: SlideImage, long_side: int = 768) -> NDArray[np.uint8]:
    """The slide, averaged down so that its long side has at most `long_side` pixels.

    Blocks of k x k pixels are averaged (k the smallest integer that fits), in bands of rows, so
    that a large slide is never in memory as a whole. A last block that is cut off by the border
    is averaged over what is there.

    Parameters
    ----------
    image : SlideImage
        The pixels.
    long_side : int
        Largest height or width of the result, in pixels.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        ``h = ceil(H / k)``, ``w = ceil(W / k)``.
    """
    height, width = image.shape
    k = math.ceil(max(height, width) / long_side)
    if k <= 1:
        return image.read_rows(0, height).copy()
    columns = np.arange(0, width, k)
    wide = np.diff(np.append(columns, width))
    out = np.empty((math.ceil(height / k), len(columns), 3), dtype=np.uint8)
    # Near the rows that the file stores together, within BAND_BYTES, in whole blocks.
    rows_at_once = min(max(image.band_rows, 256), BAND_BYTES // (3 * width))
    step = k * max(1, rows_at_once // k)
    for start in range(0, height, step):
        band = image.read_rows(start, min(start + step, height))
        for top in range(0, len(band), k):
            block = band[top : top + k]
            sums = np.add.reduceat(block.sum(axis=0, dtype=np.uint32), columns, axis=0)
            out[(start + top) // k] = np.round(sums / (len(block) * wide[:, None]))
    return out
