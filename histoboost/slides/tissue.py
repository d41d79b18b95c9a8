"""Stain density, unevenness and sharpness of a slide on coarse grids."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest, in_order

#: Decadic optical density of every pixel value; one is added so that black is finite.
DENSITY_OF = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)

#: Pixels darker than this in all channels are padding or the rim, not stain.
BLACK = 8

#: Up to this block size, adding slices is faster than ``np.add.reduceat``.
SHORT = 8

#: Levels with more pixels are read only if there is no coarser one.
SEEN = 2**28

#: Approximate grid cells per spot pitch, and least pixels per pitch at which a slide is read.
CELLS_PER_PITCH = 12
LOOK_PX = 32

#: Approximate rows processed at once, so that they fit into a processor's cache.
STRIP = 32

#: Most cells of a grid, enough for a slide of 100,000 x 80,000 px.
MAX_CELLS = 4_000_000


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


def look_up(
    grid: NDArray[Any], xy: NDArray[np.float64], cell: float, outside: float
) -> NDArray[np.float64]:
    """Values of a grid with cells of `cell` pixels at points (N, 2) in pixels."""
    column, row = np.floor(xy / cell).astype(np.intp).T
    inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
    values = np.full(len(xy), outside)
    values[inside] = grid[row[inside], column[inside]]
    return values


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


@dataclass(frozen=True, eq=False)
class Grid:
    """Means over the pixels of every cell, (h, w) float32; densities are decadic.

    `cell` and `look_px` are the widths of a cell and of the pixels read, at full resolution.
    `density` (h, w, 3) is that of red, green and blue; `square` is the green density squared,
    `curvature` its squared Laplacian, and `black` the fraction of pixels that are padding or
    fluorescence background.
    """

    cell: float
    density: NDArray[np.float32]
    square: NDArray[np.float32]
    curvature: NDArray[np.float32]
    black: NDArray[np.float32]
    look_px: float


def read_grid(image: SlideImage, pitch_px: float) -> Grid:
    """Read a slide in bands, at the coarsest level that still resolves `pitch_px` well."""
    height, width = image.shape
    wanted = 1.01 * max(1.0, pitch_px / LOOK_PX)
    level, (tall, wide, downsample) = coarsest(image.levels, lambda one: one.downsample <= wanted)
    shrink = max(1, int(pitch_px / LOOK_PX / downsample))
    look = downsample * shrink
    most = math.sqrt(height * width / MAX_CELLS) / look
    side = max(1, round(pitch_px / look / CELLS_PER_PITCH), math.ceil(most))
    step = max(1, STRIP // (shrink * side)) * shrink * side

    def strips() -> Iterator[NDArray[np.uint8]]:
        above = None
        for _, band in bands(image, level, multiple=step):
            # The Laplacian needs two more rows; the first is repeated.
            above = np.tile(band[:shrink], (2, 1, 1)) if above is None else above
            rows = np.concatenate([above, band])
            above = rows[-2 * shrink :]
            yield from (rows[k : k + step + 2 * shrink] for k in range(0, len(band), step))

    shape = (math.ceil(tall / (shrink * side)), math.ceil(wide / (shrink * side)))
    density, done = np.empty((*shape, 3), np.float32), 0
    # Filled one by one: a list of strips would double the memory.
    square, curvature, black = (np.zeros(shape, np.float32) for _ in range(3))
    with closing(in_order(partial(_cells, shrink, side), strips())) as parts:
        for means in parts:
            own = slice(done, done + len(means[0]))
            for at, colour in enumerate(means[:3]):
                density[own, :, at] = colour
            for whole, values in zip((square, curvature, black), means[3:], strict=False):
                whole[own] = values
            done = own.stop
    return Grid(side * look, density, square, curvature, black, look)


def _cells(shrink: int, side: int, rows: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Means of red, green, blue, green's square and curvature (and black) of a strip."""
    dark = brightest(rows) < BLACK
    planes = [DENSITY_OF.take(colour) for colour in np.moveaxis(rows, 2, 0)]
    if dark.any():
        for plane in planes:
            plane[dark] = 0
        planes.append(dark.astype(np.float32))
    if shrink > 1:
        planes = [block_mean(plane, shrink) for plane in planes]
    curvature = _laplacian(planes[1])
    red, green, blue, *black = (plane[2:] for plane in planes)
    found = [red, green, blue, green**2, curvature**2, *black]
    return [block_mean(each, side) for each in found]


def _laplacian(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Laplacian of all rows but the first and last; edge columns are repeated."""
    middle = values[1:-1]
    beside = np.pad(middle, ((0, 0), (1, 1)), mode="edge")
    return np.asarray(
        4 * middle - values[:-2] - values[2:] - beside[:, :-2] - beside[:, 2:], np.float32
    )
