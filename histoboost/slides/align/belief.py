"""Probability of tissue and of glass on a grid over a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from histoboost.slides.tissue import block_mean, otsu

Array = NDArray[np.float64]

#: Softness of the border between glass (0) and tissue (1), in log density.
SOFTNESS = 0.12

#: Largest probability of tissue or glass: there is dirt, folds and fat.
CERTAINTY = 0.95


@dataclass(frozen=True)
class Belief:
    """Log probability of tissue and of glass (h, w), in cells of `cell` pixels."""

    cell: float
    tissue: NDArray[np.float32]
    glass: NDArray[np.float32]


def believe(
    density: NDArray[np.float32], block: int, pitch: float, border: float, per_pitch: int
) -> Belief:
    """Estimate tissue and glass on a grid of about `per_pitch` cells per pitch."""
    logs = _log_density(density, block, pitch)
    _, glass, tissue = otsu(logs)
    gap = max(tissue - glass, 1e-6)
    middle = glass + border * gap
    likely = 1 / (1 + np.exp(-np.clip((logs - middle) / (SOFTNESS * gap), -30, 30)))
    likely = np.clip(likely, 1 - CERTAINTY, CERTAINTY)
    blocks = max(1, round(pitch / max(per_pitch, 1) / block))  # spots may lie less than a px apart
    return Belief(
        cell=float(blocks * block),
        tissue=block_mean(np.log(likely), blocks),
        glass=block_mean(np.log(1 - likely), blocks),
    )


def contrast(density: NDArray[np.float32], block: int, pitch: float) -> float:
    """Ratio of the densities of tissue and glass; 1 if there is only one class."""
    _, glass, tissue = otsu(_log_density(density, block, pitch))
    return float(np.exp(tissue - glass))


def on_tissue(
    xy: Array, density: NDArray[np.float32], block: int, pitch: float
) -> NDArray[np.bool_]:
    """Whether each spot (N, 2) lies on tissue; False outside the image."""
    belief = believe(density, block, pitch, 0.5, int(pitch / block))
    return np.asarray(look_up(belief.tissue, xy, belief.cell, -np.inf) > np.log(0.5))


def covered_tissue(xy: Array, density: NDArray[np.float32], block: int, pitch: float) -> float:
    """Fraction of the tissue within 1.5 pitches of a spot; 1 if there is no tissue."""
    belief = believe(density, block, pitch, 0.5, 3)
    rows, columns = np.nonzero(belief.tissue > np.log(0.5))
    if not len(rows):
        return 1.0
    cells = (np.stack([columns, rows], axis=1) + 0.5) * belief.cell
    distance, _ = cKDTree(xy).query(cells, distance_upper_bound=1.5 * pitch)
    return float(np.isfinite(distance).mean())


def _log_density(density: NDArray[np.float32], block: int, pitch: float) -> Array:
    # Blurred over about the width of a Visium spot, 0.55 pitches.
    blurred = gaussian_filter(density, 0.14 * pitch / block)
    return cast(Array, np.log(blurred + 0.01))


def look_up(grid: NDArray[np.float32], xy: Array, cell: float, beyond: float) -> Array:
    """Values of a grid at points (N, 2); `beyond` outside."""
    column, row = np.floor(xy / cell).astype(np.intp).T
    inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
    values = np.full(len(xy), beyond)
    values[inside] = grid[row[inside], column[inside]]
    return values
