"""Spot graph and sparse neighbourhood means of one slide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from histoboost.spots import REACH, spot_pitch

#: Cells per radius when spots of a large area are pooled.
CELLS_PER_RADIUS = 8
#: Minimum width of a cell, in spot pitches, for pooling to be worth its rounding.
LEAST_CELL = 1.5


def spot_graph(xy: NDArray[np.float64]) -> sp.csr_array:
    """Adjacency (N, N), bool, of spots with centres `xy` (N, 2), in any unit, on their lattice.

    It is symmetric, with an empty diagonal.
    """
    n = len(xy)
    pitch = spot_pitch(xy) or 0.0
    pairs = cKDTree(xy).query_pairs(REACH * pitch, output_type="ndarray")
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    edges = (np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1]))
    return sp.csr_array(edges, shape=(n, n))


def ring_mean(xy: NDArray[np.float64], rings: int) -> sp.csr_array:
    """Averaging operator (N, N) over the spots at graph distance 1 to `rings`.

    Rows sum to 1, so constants stay constant; spots without neighbours keep their own value.
    """
    graph = spot_graph(xy).astype(np.int32)
    reach = graph
    for _ in range(rings - 1):
        reach = reach + reach @ graph
        reach.data[:] = 1  # count reachable spots, not paths
    reach = sp.csr_array(reach)
    reach.setdiag(0)
    reach.eliminate_zeros()
    degree = np.diff(reach.indptr)
    alone = np.flatnonzero(degree == 0)
    itself = sp.csr_array((np.ones(len(alone), np.int32), (alone, alone)), shape=reach.shape)
    reach = sp.csr_array(reach + itself)
    shares = 1.0 / np.maximum(degree, 1)
    weights = np.repeat(shares, np.diff(reach.indptr)).astype(np.float32)
    return sp.csr_array((weights, reach.indices, reach.indptr), shape=reach.shape)


class Mean(NamedTuple):
    """Averaging operator: `spread` (N, M) over spots, or over cells averaged by `pool` (M, N)."""

    spread: sp.csr_array
    pool: sp.csr_array | None = None

    def __matmul__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.spread @ (values if self.pool is None else self.pool @ values))


def area_mean(xy: NDArray[np.float64], percent: float) -> Mean:
    """Averaging operator over a disc around each spot with `percent` of the slide's area.

    The radius is a whole number of spot pitches, at least 1, so the means do not depend on how
    densely a section is sampled. For a large radius, spots are pooled into cells an eighth of it
    wide, so the cost does not grow with it; cells on the rim are weighted by how far inside their
    centroid is, to avoid artefacts of the cells. Constants stay constant.
    """
    pitch, count = spot_pitch(xy) or 1.0, len(xy)
    reach = max(1, round(np.sqrt(count * percent / 100 / np.pi)))
    radius = (reach + 0.1) * pitch  # jitter must not push the outermost spots out
    side = radius / CELLS_PER_RADIUS
    cell, centres, held, rim = np.arange(count), xy, np.ones(count), 0.0
    if side >= LEAST_CELL * pitch:
        rim = side
        square = np.floor((xy - xy.min(axis=0)) / side)
        _, found, spots = np.unique(square, axis=0, return_inverse=True, return_counts=True)
        cell, held = found.ravel(), spots.astype(np.float64)
        sums = [np.bincount(cell, xy[:, axis]) / held for axis in (0, 1)]
        centres = np.stack(sums, axis=1)
    near = cKDTree(xy).sparse_distance_matrix(
        cKDTree(centres), radius + rim / 2, output_type="ndarray"
    )
    spots, cells, weights = near["i"], near["j"], held[near["j"]]
    if rim:
        weights = weights * np.clip((radius - near["v"]) / rim + 0.5, 0.0, 1.0)
    # The centroid of a spot's own cell is inside the disc, so no disc is empty.
    weights /= np.bincount(spots, weights, count)[spots]
    spread = sp.csr_array((weights.astype(np.float32), (spots, cells)), shape=(count, len(held)))
    if not rim:
        return Mean(spread)
    return Mean(spread, sp.csr_array((1 / held[cell], (cell, np.arange(count))), dtype=np.float32))


def smooth(
    predicted: NDArray[np.float64], xy: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Replace `share` (0 to 1) of each spot's prediction (N, T) by the mean of its neighbours."""
    if share == 0.0:
        return predicted
    return np.asarray((1.0 - share) * predicted + share * (ring_mean(xy, 1) @ predicted))
