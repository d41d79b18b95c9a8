"""Places that tell where the spots of a slide belong: the spots, and empty places among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

#: Empty places lie this far from the nearest spot (pitches), one per `EMPTY_STEP` squared.
EMPTY_FROM, EMPTY_TO, EMPTY_STEP = 0.95, 3.0, 1 / 3

#: More spots, or empty places, than this add time and no certainty.
MAX_VOTES = 5000

#: Regions across a slide, for drawing with replacement.
REGIONS_ACROSS = 6


@dataclass(frozen=True)
class Votes:
    """Places that speak for or against a transform, in groups of one kind and one region.

    A group is (places (n, 2) in pixels, whether they are spots, region, weight of one place).
    """

    groups: list[tuple[Array, bool, int, float]]
    regions: int


def collect_votes(xy: Array, pitch: float) -> Votes:
    """The spots, and the empty places amid and around them that could have held one."""
    grid = _grid_near(xy, EMPTY_TO * pitch, round(EMPTY_TO / EMPTY_STEP))
    distance, _ = cKDTree(xy).query(grid, distance_upper_bound=EMPTY_TO * pitch)
    empty = grid[(distance > EMPTY_FROM * pitch) & np.isfinite(distance)]
    empty = empty[~_beyond_the_frame(empty, xy, pitch)]
    spots, spot_weight = _thin(xy)
    empty, empty_weight = _thin(empty)
    places = np.concatenate([spots, empty])
    region = _regions(places)
    is_spot = np.arange(len(places)) < len(spots)
    groups = []
    for index in range(REGIONS_ACROSS**2):
        for kind, weight in ((True, spot_weight), (False, EMPTY_STEP**2 * empty_weight)):
            members = places[(region == index) & (is_spot == kind)]
            if len(members):
                groups.append((members, kind, index, weight))
    return Votes(groups, REGIONS_ACROSS**2)


def _grid_near(xy: Array, reach: float, per_reach: int) -> Array:
    """Points of a square grid, `per_reach` to a `reach`, wherever a spot is within reach.

    In blocks around the spots, so that one spot far away does not span a grid over the void.
    """
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 2), axis=-1).reshape(-1, 2)
    blocks = np.unique(np.floor(xy / reach), axis=0)
    blocks = np.unique((blocks[:, None] + offsets).reshape(-1, 2), axis=0)
    inner = np.stack(np.meshgrid(*[np.arange(per_reach) / per_reach] * 2), axis=-1).reshape(-1, 2)
    return cast(Array, ((blocks[:, None] + inner) * reach).reshape(-1, 2))


def _thin(places: Array) -> tuple[Array, float]:
    """At most `MAX_VOTES` of the places, drawn at random, and the weight that makes up for it."""
    if len(places) <= MAX_VOTES:
        return places, 1.0
    chosen = np.random.default_rng(0).choice(len(places), MAX_VOTES, replace=False)
    return places[np.sort(chosen)], len(places) / MAX_VOTES


def _regions(places: Array) -> NDArray[np.intp]:
    """Columns of equally many places, each cut into rows of equally many."""

    def bins(values: Array) -> NDArray[np.intp]:
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        return order * REGIONS_ACROSS // max(len(values), 1)

    column = bins(places[:, 0])
    region = np.zeros(len(places), np.intp)
    for index in range(REGIONS_ACROSS):
        inside = column == index
        region[inside] = index * REGIONS_ACROSS + bins(places[inside, 1])
    return region


def straight_sides(xy: Array, pitch: float) -> list[tuple[int, int, float]]:
    """Sides where the spots end in a long straight row: axis, direction, coordinate.

    There the capture area ends, not the tissue.
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


def _beyond_the_frame(places: Array, xy: Array, pitch: float) -> NDArray[np.bool_]:
    """Places past a straight side of the spots."""
    beyond = np.zeros(len(places), bool)
    for axis, sign, side in straight_sides(xy, pitch):
        beyond |= sign * (places[:, axis] - side) > 0
    return beyond
