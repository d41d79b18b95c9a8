"""Spot graph and sparse neighbour means, slide by slide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from histoboost.errors import BadInput
from histoboost.spots import REACH, spot_pitch

#: Cells that spots are pooled into, along the radius of a large area.
CELLS_PER_RADIUS = 8
#: Spot pitches that a cell must be wide for pooling to be worth its rounding.
LEAST_CELL = 1.5


def spot_graph(xy: NDArray[np.float64]) -> sp.csr_array:
    """Which spots of one slide are neighbours on its lattice, (N, N) bool.

    The graph of the centres `xy` (N, 2), in any unit, is symmetric and has no diagonal.
    """
    if not np.isfinite(xy).all():
        raise BadInput("spot coordinates: some are not finite; remove those spots")
    n = len(xy)
    pitch = spot_pitch(xy) or 0.0
    pairs = cKDTree(xy).query_pairs(REACH * pitch, output_type="ndarray")
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    edges = (np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1]))
    return sp.csr_array(edges, shape=(n, n))


def ring_mean(xy: NDArray[np.float64], rings: int) -> sp.csr_array:
    """Operator that averages over the spots at graph distance 1 to `rings`, the spot excluded.

    Every row of it, (N, N), sums to 1, so constants stay constant; the row of a spot without
    neighbours is that of the identity.
    """
    if rings < 1:
        raise BadInput(f"ring{rings}: the number of rings must be 1 or more")
    graph = spot_graph(xy).astype(np.int32)
    reach = graph
    for _ in range(rings - 1):
        reach = reach + reach @ graph
        reach.data[:] = 1  # only whether, not how often: paths are many
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
    """Averages over neighbourhoods: `spread` (N, M) of M spots, or of cells that `pool` (M, N)
    averages."""

    spread: sp.csr_array
    pool: sp.csr_array | None = None

    def __matmul__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.spread @ (values if self.pool is None else self.pool @ values))


def area_mean(xy: NDArray[np.float64], percent: float) -> Mean:
    """Averages over the disc about every spot whose area is `percent` of that of all spots.

    The radius is a whole number of spot pitches, at least 1, so that the means do not depend on how
    finely a section is sampled. Where it is large, spots are pooled into cells of an eighth of it,
    so that the cost does not grow with it; a cell on the rim counts by how far its centroid lies
    within, for whole cells that enter or leave would tell more of the cells than of the tissue.
    Constants stay constant.
    """
    if not np.isfinite(xy).all():
        raise BadInput("spot coordinates: some are not finite; remove those spots")
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
    # The centroid of a spot's own cell lies within the disc, so that no disc is empty.
    weights /= np.bincount(spots, weights, count)[spots]
    spread = sp.csr_array((weights.astype(np.float32), (spots, cells)), shape=(count, len(held)))
    if not rim:
        return Mean(spread)
    return Mean(spread, sp.csr_array((1 / held[cell], (cell, np.arange(count))), dtype=np.float32))


def smooth(
    predicted: NDArray[np.float64], xy: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Take `share` of every spot's prediction (N, T) from the mean over its direct neighbours.

    0 changes nothing, 1 leaves the neighbours' mean; where all spots agree, nothing changes.
    """
    if share == 0.0:
        return predicted
    return np.asarray((1.0 - share) * predicted + share * (ring_mean(xy, 1) @ predicted))
