"""Tissue, niches and cells of a phantom, from smooth random fields on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from histoboost.phantom.cells import KINDS, NICHES

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Tissue:
    """Fields that define a slide, each of shape (h, w) except `niches`, (K, h, w)."""

    um: float  # micrometres per cell of the grid
    inside: Field  # 1 in tissue, 0 on glass, soft in between
    niches: Field  # share of each niche; sums to 1
    fibres: Field  # stripes along the fibres, -1 to 1
    angle: Field  # direction of the fibres in radians
    empty: Field  # 1 in a lumen or fat vacuole
    duct: Field  # smooth noise of unit variance; ducts follow its level sets
    vessel: Field  # the same for vessels
    septa: Field  # 1 on the walls between fat vacuoles, 0 inside them and outside fat


@dataclass(frozen=True)
class Cells:
    """The C cells of a slide.

    `xy` (C, 2) are the centres in grid units; of shape (C,) are the index into `KINDS`, the angle
    of the nucleus in radians, and the size relative to the diameter of the kind.
    """

    xy: Field
    kind: NDArray[np.intp]
    angle: Field
    size: Field


def smooth_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Field:
    """Gaussian noise of unit variance, correlated over about `sigma` grid cells."""
    shrink = max(1.0, sigma / 3)
    coarse = [int(np.ceil(n / shrink)) + 4 for n in shape]
    local = sigma / shrink
    noise = gaussian_filter(rng.standard_normal(coarse).astype(np.float32), local, mode="wrap")
    noise *= 2 * np.sqrt(np.pi) * local  # the filter leaves a variance of 1 / (4 pi sigma^2)
    if shrink > 1:
        noise = zoom(noise, shrink, order=3, prefilter=False)
    return cast(Field, noise[: shape[0], : shape[1]])


def grow_tissue(shape: tuple[int, int], um: float, rng: np.random.Generator) -> Tissue:
    """Draw random tissue on a grid of `shape` cells, each `um` micrometres wide."""
    niches = _niches(shape, um, rng)
    phase = _fibre_phase(shape, um, rng)
    slope_y, slope_x = np.gradient(phase)
    fat = sum(niches[k] for k, niche in enumerate(NICHES) if niche.fat)
    wall = _vacuole_walls(shape, um, np.asarray(fat), rng)
    # Bands along level sets of a smooth field enclose lumens, as ducts and vessels do.
    duct = smooth_noise(shape, 22 / um, rng)
    vessel = smooth_noise(shape, 26 / um, rng)
    lumen = _above(duct, 1.15, 0.15) * np.clip(3 * niches[1] - 1, 0, 1)
    vacuole = (1 - wall) * _above(np.asarray(fat), 0.5, 0.1)
    return Tissue(
        um=um,
        inside=_outline(shape, um, rng),
        niches=niches,
        fibres=np.cos(2 * np.pi * phase).astype(np.float32),
        angle=np.arctan2(slope_x, -slope_y).astype(np.float32),
        empty=np.maximum(lumen, vacuole).astype(np.float32),
        duct=duct,
        vessel=vessel,
        septa=wall,
    )


def scatter_cells(tissue: Tissue, rng: np.random.Generator) -> Cells:
    """Draw the cells of each kind from a Poisson process with an intensity given by the fields."""
    per_cell = tissue.um**2 / 1e4
    centres, kinds = [], []
    for index, kind in enumerate(KINDS):
        density = np.zeros_like(tissue.inside)
        for cells, share in zip(kind.density, tissue.niches, strict=True):
            density += cells * share
        density *= _arrangement(kind.arrangement, tissue, rng) * per_cell * (tissue.inside > 0.5)
        cumulative = np.cumsum(density, dtype=np.float64)
        n = rng.poisson(cumulative[-1])
        cell = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        row, column = np.divmod(np.minimum(cell, cumulative.size - 1), density.shape[1])
        centres.append(np.stack([column, row], axis=1) + rng.random((n, 2)))
        kinds.append(np.full(n, index))
    xy = np.concatenate(centres).astype(np.float32)
    column, row = np.floor(xy).astype(np.intp).T
    n = len(xy)
    return Cells(
        xy=xy,
        kind=np.concatenate(kinds),
        angle=(tissue.angle[row, column] + rng.normal(0, 0.3, n)).astype(np.float32),
        size=np.exp(rng.normal(0, 0.15, n)).astype(np.float32),
    )


def _above(values: Field, threshold: float, width: float) -> Field:
    """Soft step from 0 to 1 around `threshold`."""
    return cast(Field, np.clip((values - threshold) / width + 0.5, 0, 1))


def _outline(shape: tuple[int, int], um: float, rng: np.random.Generator) -> Field:
    """A ragged blob of tissue on glass, with a few tears."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    a, b = rng.uniform(0.82, 0.95), rng.uniform(0.68, 0.85)
    size = float(np.sqrt(shape[0] * shape[1]))
    edge = 0.13 * smooth_noise(shape, size / 9, rng) + 0.02 * smooth_noise(shape, 30 / um, rng)
    blob = 1 - np.sqrt((u / a) ** 2 + (v / b) ** 2) + edge
    blob = np.minimum(blob, 6 * (1 - np.maximum(np.abs(x), np.abs(y))) - 0.12)
    torn = smooth_noise(shape, max(size / 30, 60 / um), rng)
    return _above(np.asarray(blob, np.float32), 0.0, 0.01) * (1 - _above(torn, 2.1, 0.05))


def _niches(shape: tuple[int, int], um: float, rng: np.random.Generator) -> Field:
    fields = np.stack([smooth_noise(shape, 230 / um, rng) for _ in NICHES])
    fields = np.exp(5 * (fields - fields.max(axis=0)))
    return cast(Field, (fields / fields.sum(axis=0)).astype(np.float32))


def _fibre_phase(shape: tuple[int, int], um: float, rng: np.random.Generator) -> Field:
    """Phase of the fibre pattern, in fibres; its contours are the fibres."""
    y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    turn = rng.uniform(0, np.pi)
    straight = (x * np.cos(turn) + y * np.sin(turn)) * um / 24
    bent = 6 * smooth_noise(shape, 260 / um, rng) + 0.35 * smooth_noise(shape, 30 / um, rng)
    return cast(Field, (straight + bent).astype(np.float32))


def _vacuole_walls(
    shape: tuple[int, int], um: float, fat: Field, rng: np.random.Generator
) -> Field:
    """1 on the borders between fat cells of about 70 um, 0 inside them; 0 outside fat."""
    wall = np.zeros(shape, np.float32)
    rows, columns = np.nonzero(fat > 0.3)
    if len(rows) == 0:
        return wall
    n = max(4, int(shape[0] * shape[1] * um**2 / 70**2))
    seeds = rng.random((n, 2)) * shape
    distance, _ = cKDTree(seeds).query(np.stack([rows, columns], axis=1), k=2)
    gap = (distance[:, 1] - distance[:, 0]) * um
    wall[rows, columns] = np.exp(-((gap / 7) ** 2))
    return wall


def _arrangement(name: str, tissue: Tissue, rng: np.random.Generator) -> Field:
    """Relative density of a kind of cell, about 1 on average."""
    shape = tissue.inside.shape
    solid = 1 - tissue.empty
    if name == "clustered":
        return cast(Field, solid * np.exp(0.9 * smooth_noise(shape, 20 / tissue.um, rng) - 0.4))
    if name == "strands":
        return cast(Field, solid * (1 + 0.9 * tissue.fibres))
    if name == "duct":
        return cast(Field, 3.5 * np.exp(-(((tissue.duct - 0.95) / 0.22) ** 2)))
    if name == "vessel":
        return cast(Field, 7 * solid * np.exp(-(((tissue.vessel - 1.45) / 0.14) ** 2)))
    if name == "blood":
        return 9 * _above(tissue.vessel, 1.6, 0.1)
    if name == "septa":
        return 3 * tissue.septa
    return solid
