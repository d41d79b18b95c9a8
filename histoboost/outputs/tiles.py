"""The part of a slide that a spot stands for on a map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histoboost.spots import REACH, spot_pitch

#: A lattice is taken for hexagonal or square where its neighbours' directions agree so far.
_ORDER = 0.5
#: How far a tile reaches beyond its outline, so that whole coordinates leave no holes in a map.
_ROOM = 1.05


@dataclass(frozen=True, eq=False)
class Tile:
    """The cell of a lattice around a spot: a hexagon, a square, or a disc where there is none.

    `outline` (K, 2) are corners around the spot's centre in pixels, not closed, `reach` pixels
    away.
    """

    outline: NDArray[np.float64]
    reach: float

    @classmethod
    def of(cls, xy: NDArray[np.float64]) -> Tile:
        """The tile of the spots at `xy`, (N, 2) in pixels, turned as their lattice is."""
        pitch = spot_pitch(xy) or 1.0
        sides, turn = _symmetry(xy, pitch)
        # Neighbouring hexagons and squares share their edges: these lie half a pitch away.
        reach = pitch / 2 / math.cos(math.pi / sides) if sides <= 6 else pitch / 2
        angles = turn + (np.arange(sides) + 0.5) * 2 * np.pi / sides
        return cls(reach * np.stack([np.cos(angles), np.sin(angles)], axis=1), reach)


def nearest_spot(
    xy: NDArray[np.float64], side: float, shape: tuple[int, int], corner: ArrayLike = (0, 0)
) -> NDArray[np.int32]:
    """Row in `xy` of the spot in whose tile the middle of each pixel of a map lies; -1: none.

    `xy` (N, 2) are centres in pixels of the slide, `side` is that of the map's pixels in these,
    `shape` has the map's rows and columns, and `corner`, (x, y), is where its upper left corner
    lies.
    """
    from scipy.spatial import cKDTree

    tree, tile = cKDTree(xy), Tile.of(xy)
    edges = tile.outline + np.roll(tile.outline, -1, axis=0)  # twice the middle of each edge
    bounds = (edges**2).sum(axis=1) / 2
    found = np.full(shape, -1, np.int32)
    x0, y0 = np.asarray(corner, dtype=np.float64)
    x = x0 + (np.arange(shape[1]) + 0.5) * side
    for row in range(shape[0]):  # a row at a time: the places of a whole map would take much room
        places = np.stack([x, np.full(len(x), y0 + (row + 0.5) * side)], axis=1)
        distance, spot = tree.query(places, distance_upper_bound=_ROOM * tile.reach)
        at = np.flatnonzero(np.isfinite(distance))
        inside = ((places[at] - xy[spot[at]]) @ edges.T <= _ROOM * bounds).all(axis=1)
        found[row, at[inside]] = spot[at[inside]]
    return found


def _symmetry(xy: NDArray[np.float64], pitch: float) -> tuple[int, float]:
    """Number of a tile's sides, and the direction of a neighbour (radians)."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(xy).query_pairs(REACH * pitch, output_type="ndarray")
    if len(pairs) == 0:
        return 24, 0.0
    x, y = (xy[pairs[:, 1]] - xy[pairs[:, 0]]).T
    # Turned by its own symmetry a lattice stays as it is, so these means have length 1.
    means = {sides: np.exp(1j * sides * np.arctan2(y, x)).mean() for sides in (6, 4)}
    sides = max(means, key=lambda each: abs(means[each]))
    if abs(means[sides]) < _ORDER:
        return 24, 0.0
    return sides, float(np.angle(means[sides])) / sides
