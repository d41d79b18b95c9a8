"""Probability of tissue and of glass on a grid over a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from histoboost.slides.tissue import block_mean, look_up, otsu

Array = NDArray[np.float64]

#: Softness of the border between glass (0) and tissue (1), in log density.
SOFTNESS = 0.12

#: Largest probability of tissue or glass: there is dirt, folds and fat.
CERTAINTY = 0.95


@dataclass(frozen=True)
class TissueGrid:
    """Log probability of tissue and of glass (h, w), in cells of `cell` pixels."""

    cell: float
    tissue: NDArray[np.float32]
    glass: NDArray[np.float32]


def estimate_tissue(
    density: NDArray[np.float32], block: int, pitch: float, border: float, per_pitch: int
) -> TissueGrid:
    """Estimate tissue and glass on a grid of about `per_pitch` cells per pitch."""
    logs = _log_density(density, block, pitch)
    _, glass, tissue = otsu(logs)
    gap = max(tissue - glass, 1e-6)
    middle = glass + border * gap
    likely = 1 / (1 + np.exp(-np.clip((logs - middle) / (SOFTNESS * gap), -30, 30)))
    likely = np.clip(likely, 1 - CERTAINTY, CERTAINTY)
    blocks = max(1, round(pitch / max(per_pitch, 1) / block))  # spots may lie less than a px apart
    return TissueGrid(
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
    grid = estimate_tissue(density, block, pitch, 0.5, int(pitch / block))
    return np.asarray(look_up(grid.tissue, xy, grid.cell, -np.inf) > np.log(0.5))


def covered_tissue(xy: Array, density: NDArray[np.float32], block: int, pitch: float) -> float:
    """Fraction of the tissue within 1.5 pitches of a spot; 1 if there is no tissue."""
    grid = estimate_tissue(density, block, pitch, 0.5, 3)
    rows, columns = np.nonzero(grid.tissue > np.log(0.5))
    if not len(rows):
        return 1.0
    cells = (np.stack([columns, rows], axis=1) + 0.5) * grid.cell
    distance, _ = cKDTree(xy).query(cells, distance_upper_bound=1.5 * pitch)
    return float(np.isfinite(distance).mean())


def _log_density(density: NDArray[np.float32], block: int, pitch: float) -> Array:
    # Blurred over about the width of a Visium spot, 0.55 pitches.
    blurred = gaussian_filter(density, 0.14 * pitch / block)
    return cast(Array, np.log(blurred + 0.01))
