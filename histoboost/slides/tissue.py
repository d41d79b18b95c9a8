"""Stain density on a coarse grid, and thresholds for tissue."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest

#: Decadic optical density of every pixel value; one is added so that black is finite.
DENSITY_OF = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)

#: Pixels darker than this in all channels are padding or the rim, not stain.
BLACK = 8

#: Up to this block size, adding slices is faster than ``np.add.reduceat``.
SHORT = 8

#: Levels with more pixels are read only if there is no coarser one.
SEEN = 2**28


def block_side(image: SlideImage, wanted: int) -> int:
    """Block side for `stain_density` near `wanted`, at least two pixels of the level to read.

    That is the coarsest level for which `wanted` suffices, else the finest that is small enough.
    """
    steps = [int(step) for h, w, step in image.levels if step.is_integer() and h * w <= SEEN] or [1]
    step = max([min(steps), *(step for step in steps if 2 * step <= wanted)])
    return wanted if step == 1 else max(1, wanted // (2 * step)) * 2 * step


def stain_density(image: SlideImage, block: int) -> NDArray[np.float32]:
    """Amount of stain in every block of an image, read in bands.

    The mean optical density in green, which both haematoxylin and eosin absorb, plus its standard
    deviation: tissue is uneven, tinted or shaded glass is not. Pixels come from the coarsest level
    with an even number of pixels along a block.

    Parameters
    ----------
    image : SlideImage
        (H, W) pixels.
    block : int
        Side of a block in pixels; blocks at the right and lower edge may be smaller.

    Returns
    -------
    ndarray of shape (ceil(H / block), ceil(W / block)), float32
    """
    level, found = coarsest(image.levels, lambda one: block % (2 * one.downsample) == 0)
    side, out = block // int(found.downsample), []
    for _, rows in bands(image, level, multiple=side):
        density = DENSITY_OF[rows[..., 1]]
        density[brightest(rows) < BLACK] = 0
        mean = block_mean(density, side)
        out.append(mean + np.sqrt(np.maximum(block_mean(density**2, side) - mean**2, 0)))
    return cast(NDArray[np.float32], np.concatenate(out))


def brightest(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Maximum of red, green and blue; ``max`` over so short an axis is ten times slower."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def block_mean(values: NDArray[np.floating], block: int) -> NDArray[np.float32]:
    """Mean of every `block` x `block` cells of a grid; blocks at the far edges may be smaller."""
    total: NDArray[np.floating] = values
    count = np.ones(1)
    for axis in (0, 1):
        n = values.shape[axis]
        starts = np.arange(0, n, block)
        total = (
            _block_sum(total, block, axis)
            if block <= SHORT
            else np.add.reduceat(total, starts, axis)
        )
        sizes = np.minimum(starts + block, n) - starts
        count = count * (sizes[:, None] if axis == 0 else sizes)
    return np.asarray(total / count, np.float32)


def _block_sum(values: NDArray[np.floating], block: int, axis: int) -> NDArray[np.floating]:
    """``np.add.reduceat`` for short blocks: identical bits at a tenth of the cost."""
    values = np.moveaxis(values, axis, 0)
    first = values[::block].copy()
    rest = np.zeros_like(first)
    for k in range(1, block):
        rest[: len(values[k::block])] += values[k::block]
    return np.moveaxis(first + rest, 0, axis)


def otsu(values: NDArray[np.floating], bins: int = 128) -> tuple[float, float, float]:
    """Split values into a low and a high class by Otsu's method.

    Otsu, "A threshold selection method from gray-level histograms", 1979.

    Returns threshold, low mean and high mean, all equal if the values do not vary.
    """
    values = np.asarray(values, np.float64).ravel()
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return low, low, low
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = len(values) - below
    moment = np.cumsum(counts * centres)
    mean_below = moment[:-1] / np.maximum(below, 1)
    mean_above = (moment[-1] - moment[:-1]) / np.maximum(above, 1)
    best = int(np.argmax(below * above * (mean_above - mean_below) ** 2))
    return float(edges[best + 1]), float(mean_below[best]), float(mean_above[best])
