"""Votes for registration: the spots, and empty positions between and around them."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

#: Distance of empty positions from the nearest spot, and their spacing, in pitches.
EMPTY_FROM, EMPTY_TO, EMPTY_STEP = 0.95, 3.0, 1 / 3

#: More spots or empty positions add time but no certainty.
MAX_VOTES = 5000

#: Regions across a slide and in total, for the bootstrap.
REGIONS_ACROSS = 6
REGIONS = REGIONS_ACROSS**2

#: Groups of (positions (n, 2) in pixels, whether they are spots, region, weight of one).
Votes = list[tuple[Array, bool, int, float]]


def collect_votes(xy: Array, pitch: float) -> Votes:
    """Collect the spots, and the empty positions where a spot could have been."""
    grid = _grid_near(xy, EMPTY_TO * pitch, round(EMPTY_TO / EMPTY_STEP))
    distance, _ = cKDTree(xy).query(grid, distance_upper_bound=EMPTY_TO * pitch)
    empty = grid[(distance > EMPTY_FROM * pitch) & np.isfinite(distance)]
    for axis, sign, side in straight_sides(xy, pitch):  # there the capture area ends
        empty = empty[sign * (empty[:, axis] - side) <= 0]
    spots, spot_weight = _thin(xy)
    empty, empty_weight = _thin(empty)
    positions = np.concatenate([spots, empty])
    region = _regions(positions)
    is_spot = np.arange(len(positions)) < len(spots)
    groups: Votes = []
    for index in range(REGIONS):
        for kind, weight in ((True, spot_weight), (False, EMPTY_STEP**2 * empty_weight)):
            members = positions[(region == index) & (is_spot == kind)]
            if len(members):
                groups.append((members, kind, index, weight))
    return groups


def _grid_near(xy: Array, reach: float, per_reach: int) -> Array:
    """Points of a square grid, `per_reach` per `reach`, within reach of a spot.

    Built in blocks around the spots, so that a distant outlier does not inflate the grid.
    """
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 2), axis=-1).reshape(-1, 2)
    blocks = np.unique(np.floor(xy / reach), axis=0)
    blocks = np.unique((blocks[:, None] + offsets).reshape(-1, 2), axis=0)
    inner = np.stack(np.meshgrid(*[np.arange(per_reach) / per_reach] * 2), axis=-1).reshape(-1, 2)
    return cast(Array, ((blocks[:, None] + inner) * reach).reshape(-1, 2))


def _thin(positions: Array) -> tuple[Array, float]:
    """Sample at most `MAX_VOTES` positions, and the weight that compensates for it."""
    if len(positions) <= MAX_VOTES:
        return positions, 1.0
    chosen = np.random.default_rng(0).choice(len(positions), MAX_VOTES, replace=False)
    return positions[np.sort(chosen)], len(positions) / MAX_VOTES


def _regions(positions: Array) -> NDArray[np.intp]:
    """Assign positions to regions of equal counts: columns, each divided into rows."""

    def bins(values: Array) -> NDArray[np.intp]:
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        return order * REGIONS_ACROSS // max(len(values), 1)

    column = bins(positions[:, 0])
    region = np.zeros(len(positions), np.intp)
    for index in range(REGIONS_ACROSS):
        inside = column == index
        region[inside] = index * REGIONS_ACROSS + bins(positions[inside, 1])
    return region


def straight_sides(xy: Array, pitch: float) -> list[tuple[int, int, float]]:
    """Sides where the spots end in a long straight row: axis, direction, coordinate.

    These are edges of the capture area, not of the tissue.
    """
    sides = []
    for axis in (0, 1):
        along = xy[:, 1 - axis]
        for sign, side in ((-1, xy[:, axis].min()), (1, xy[:, axis].max())):
            rim = np.abs(xy[:, axis] - side) < 0.6 * pitch
            filled = len(np.unique(np.round(along[rim] / pitch)))
            if filled > 0.6 * (np.ptp(along) / pitch + 1):
                sides.append((axis, sign, float(side)))
    return sides
