"""Tiles: the area of a slide that each spot covers on a map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histoboost.spots import REACH, spot_pitch

#: Minimum agreement of the directions of neighbours, 0 to 1, in a hexagonal or square lattice.
_ORDER = 0.5
#: Enlargement of tiles, so that rounded coordinates leave no gaps in a map.
_ENLARGED = 1.05


@dataclass(frozen=True, eq=False)
class Tile:
    """The cell of a hexagonal or square lattice around a spot, or a disc if spots are irregular.

    `outline` (K, 2) are the corners relative to the spot in pixels, not closed, at distance
    `radius`.
    """

    outline: NDArray[np.float64]
    radius: float

    @classmethod
    def from_spots(cls, xy: NDArray[np.float64]) -> Tile:
        """Find the tile of spots at `xy`, (N, 2) in pixels, with the orientation of the lattice."""
        pitch = spot_pitch(xy) or 1.0
        sides, turn = _symmetry(xy, pitch)
        # Neighbouring hexagons and squares share edges, which are half a pitch away.
        radius = pitch / 2 / math.cos(math.pi / sides) if sides <= 6 else pitch / 2
        angles = turn + (np.arange(sides) + 0.5) * 2 * np.pi / sides
        return cls(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), radius)


def nearest_spot(
    xy: NDArray[np.float64], side: float, shape: tuple[int, int], corner: ArrayLike = (0, 0)
) -> NDArray[np.int32]:
    """Find the spot whose tile contains the centre of each map pixel: its row in `xy`, or -1.

    `xy` (N, 2), the side of a map pixel and the upper left `corner` (x, y) of the map are in pixels
    of the slide; `shape` is the number of rows and columns of the map.
    """
    from scipy.spatial import cKDTree

    tree, tile = cKDTree(xy), Tile.from_spots(xy)
    edges = tile.outline + np.roll(tile.outline, -1, axis=0)  # twice the midpoint of each edge
    bounds = (edges**2).sum(axis=1) / 2
    found = np.full(shape, -1, np.int32)
    x0, y0 = np.asarray(corner, dtype=np.float64)
    x = x0 + (np.arange(shape[1]) + 0.5) * side
    for row in range(shape[0]):  # row by row, to save memory
        centres = np.stack([x, np.full(len(x), y0 + (row + 0.5) * side)], axis=1)
        distance, spot = tree.query(centres, distance_upper_bound=_ENLARGED * tile.radius)
        near = np.flatnonzero(np.isfinite(distance))
        inside = ((centres[near] - xy[spot[near]]) @ edges.T <= _ENLARGED * bounds).all(axis=1)
        found[row, near[inside]] = spot[near[inside]]
    return found


def _symmetry(xy: NDArray[np.float64], pitch: float) -> tuple[int, float]:
    """Number of sides of a tile, and direction of a neighbour in radians."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(xy).query_pairs(REACH * pitch, output_type="ndarray")
    if len(pairs) == 0:
        return 24, 0.0
    x, y = (xy[pairs[:, 1]] - xy[pairs[:, 0]]).T
    # A lattice is invariant under rotations of its symmetry, so these means have length 1.
    means = {sides: np.exp(1j * sides * np.arctan2(y, x)).mean() for sides in (6, 4)}
    sides = max(means, key=lambda each: abs(means[each]))
    if abs(means[sides]) < _ORDER:
        return 24, 0.0
    return sides, float(np.angle(means[sides])) / sides
