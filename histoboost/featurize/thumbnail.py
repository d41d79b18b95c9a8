"""A small picture of a slide, for maps and for stores that travel without the slide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from histoboost.featurize.slide import SlideImage

#: Most bytes that the sums over a band of rows may take.
BAND_BYTES = 256 * 2**20


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
    rows_at_once = min(max(image.band_rows, 256), BAND_BYTES // (12 * width))
    step = k * max(1, rows_at_once // k)
    for start in range(0, height, step):
        band = image.read_rows(start, min(start + step, height))
        rows = np.arange(0, len(band), k)
        tall = np.diff(np.append(rows, len(band)))
        sums = np.add.reduceat(band.astype(np.uint32), columns, axis=1)
        sums = np.add.reduceat(sums, rows, axis=0)
        area = (tall[:, None] * wide[None, :])[..., None]
        out[start // k : start // k + len(rows)] = np.round(sums / area)
    return out
