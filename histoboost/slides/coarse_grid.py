"""A slide in cells of a coarse grid: how dense, how uneven and how sharp each of them is."""

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

#: Cells per spot pitch, about, and pixels per pitch at which a slide is looked at, at least.
CELLS_PER_PITCH = 12
LOOK_PX = 32

#: Rows that are looked at together, about: what they take stays in a processor's cache.
STRIP = 32

#: Cells of a grid, at most: a slide of 100,000 x 80,000 px has no more.
MAX_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Grid:
    """Means over the pixels of every cell, (h, w) float32 each; densities are optical, decadic.

    A cell is `cell` pixels of the full resolution wide, a pixel that was looked at `look_px`.
    `density` (h, w, 3) is that of red, green and blue; `square` is the green density's square,
    `curvature` the square of its Laplacian, and `black` the share of pixels that are padding, or
    the background of fluorescence.
    """

    cell: float
    density: NDArray[np.float32]
    square: NDArray[np.float32]
    curvature: NDArray[np.float32]
    black: NDArray[np.float32]
    look_px: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.black.shape[0], self.black.shape[1]


def read_grid(image: SlideImage, pitch_px: float) -> Grid:
    """Look at a slide, in bands of rows, at the coarsest level that still shows `pitch_px` well."""
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
            # The Laplacian looks at two rows more; the first is repeated.
            above = np.tile(band[:shrink], (2, 1, 1)) if above is None else above
            rows = np.concatenate([above, band])
            above = rows[-2 * shrink :]
            yield from (rows[k : k + step + 2 * shrink] for k in range(0, len(band), step))

    shape = (math.ceil(tall / (shrink * side)), math.ceil(wide / (shrink * side)))
    density, done = np.empty((*shape, 3), np.float32), 0
    # Filled as they come: kept strip by strip, they would take their memory twice.
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
    """Means of red, green, blue, green's square and curvature (and black), below two looks."""
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
    """Second differences of all rows but the first and the last; columns are repeated at an end."""
    middle = values[1:-1]
    beside = np.pad(middle, ((0, 0), (1, 1)), mode="edge")
    return np.asarray(
        4 * middle - values[:-2] - values[2:] - beside[:, :-2] - beside[:, 2:], np.float32
    )
