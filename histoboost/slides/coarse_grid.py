"""Density, unevenness and sharpness of a slide on a coarse grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest, in_order
from histoboost.slides.tissue import BLACK, DENSITY_OF, block_mean, brightest

#: Approximate grid cells per spot pitch, and least pixels per pitch at which a slide is read.
CELLS_PER_PITCH = 12
LOOK_PX = 32

#: Approximate rows processed at once, so that they fit into a processor's cache.
STRIP = 32

#: Most cells of a grid, enough for a slide of 100,000 x 80,000 px.
MAX_CELLS = 4_000_000


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
