"""A slide in cells of a coarse grid: how dense, how uneven and how sharp each of them is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import SlideImage, bands, coarsest
from histoboost.slides.tissue import BLACK, DENSITY_OF, block_mean, brightest

#: Cells per spot pitch, about, and pixels per pitch at which a slide is looked at, at least.
CELLS_PER_PITCH = 12
LOOK_PX = 32

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
    level, (_, _, downsample) = coarsest(image.levels, lambda one: one.downsample <= wanted)
    shrink = max(1, int(pitch_px / LOOK_PX / downsample))
    look = downsample * shrink
    most = math.sqrt(height * width / MAX_CELLS) / look
    side = max(1, round(pitch_px / look / CELLS_PER_PITCH), math.ceil(most))
    parts: list[tuple[NDArray[np.float32], ...]] = []
    before: NDArray[np.float32] | None = None
    for _, band in bands(image, level, multiple=shrink * side):
        density = DENSITY_OF[band]
        black = (brightest(band) < BLACK).astype(np.float32)
        density[black > 0] = 0
        if shrink > 1:
            density = np.stack([block_mean(density[..., c], shrink) for c in range(3)], axis=2)
            black = block_mean(black, shrink)
        green = density[..., 1]
        above = np.repeat(green[:1], 2, axis=0) if before is None else before
        curved = _laplacian(np.concatenate([above, green]))
        before = np.concatenate([above, green])[-2:]
        colours = [block_mean(density[..., c], side) for c in range(3)]
        rest = (green**2, curved**2, black)
        parts.append((np.stack(colours, axis=2), *(block_mean(part, side) for part in rest)))
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Grid(side * look, joined[0], joined[1], joined[2], joined[3], look)


def _laplacian(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Second differences of all rows but the first and the last; columns are repeated at an end."""
    middle = values[1:-1]
    beside = np.pad(middle, ((0, 0), (1, 1)), mode="edge")
    return np.asarray(
        4 * middle - values[:-2] - values[2:] - beside[:, :-2] - beside[:, 2:], np.float32
    )
