"""The joint target: order, map and share of every cell type, learned in one fit.

The order (which types a spot has more of) and the map (where on the slide a type is) differ: ranks
within the spot lose rare types, ranks over the slide lose the order. Both are learned at once and
merged into one prediction that keeps the order exactly and the map as far as the order allows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]

#: Number of spots of a slide below which only the order is used.
FEW_SPOTS = 3
#: Smallest total of a spot, relative to the mean.
LEAST_TOTAL = 0.01
#: Largest difference between predictions that count as equal.
ROUNDING = 1e-6
#: Values merged at once.
POOLED = 1 << 20


class Ranks(NamedTuple):
    """Ranks of a slide's abundances, 1 to T within each spot and 1 to N within each type.

    Ties have their average rank. float32 is exact up to 8 million spots.
    """

    by_spot: NDArray[np.floating[Any]]
    by_type: NDArray[np.floating[Any]]

    @classmethod
    def from_abundance(cls, abundance: NDArray[Any]) -> Ranks:
        """Rank abundances (N, T)."""
        kind = np.float32 if len(abundance) < 1 << 23 else np.float64
        return cls(*(rankdata(abundance, axis=axis).astype(kind) for axis in (1, 0)))


class Joint(NamedTuple):
    """Parts of the joint target, or of its prediction, for the N spots of one slide.

    `order` (N, T): rank of the type within the spot; `map` (N, T): rank of the spot within the
    slide, by type, both 0 to 1; `share` (N, T): abundance over the spot's sum (0 without any);
    `total` (N, 1): logarithm of the spot's sum over the mean of the training spots.
    """

    order: Array
    map: Array
    share: Array
    total: Array

    def columns(self) -> Array:
        """Concatenate all parts, (N, 3 T + 1)."""
        return np.concatenate(self, axis=1)


def joint_parts(width: int) -> list[slice]:
    """Slices of the four parts in the `width` columns of `Joint.columns`."""
    types = (width - 1) // 3
    return [*(slice(at * types, (at + 1) * types) for at in range(3)), slice(width - 1, width)]


def split(columns: Array) -> Joint:
    """Inverse of `Joint.columns`."""
    return Joint(*(columns[:, part] for part in joint_parts(columns.shape[1])))


def to_joint(abundance: Array, mean_total: float, ranks: Ranks | None = None) -> Joint:
    """Joint target of one slide's abundances (N, T), with their ranks if known."""
    by_spot, by_type = ranks or Ranks.from_abundance(abundance)
    spots, types = abundance.shape
    positive = np.maximum(abundance, 0.0)
    sums = positive.sum(axis=1, keepdims=True)
    return Joint(
        (by_spot.astype(np.float64) - 1.0) / max(types - 1, 1),
        (by_type.astype(np.float64) - 0.5) / max(spots, 1),
        np.divide(positive, sums, out=np.zeros_like(positive), where=sums > 0),
        np.log(np.maximum(sums / mean_total, LEAST_TOTAL)),
    )


def to_shares(values: Array) -> Array:
    """Divide values (N, T), negative ones as 0, by the spot's sum; equal shares if it is 0."""
    positive = np.maximum(values, 0.0)
    sums = positive.sum(axis=1, keepdims=True)
    alike = np.full_like(positive, 1.0 / max(values.shape[1], 1))
    return np.asarray(np.divide(positive, sums, out=alike, where=sums > 0))


def merge(predicted: Joint) -> Array:
    """Merge order and map into one prediction (N, T).

    The map of each type is standardised over the slide and centred on the type's mean order; within
    each spot, these values are fitted to the order by isotonic regression. A thousandth of the
    order breaks ties.
    """
    order, on_map = predicted.order, predicted.map
    if len(order) < FEW_SPOTS:
        return order
    centred = on_map - on_map.mean(axis=0)
    varies = np.ptp(on_map, axis=0) > ROUNDING
    standard = np.divide(centred, on_map.std(axis=0), out=np.zeros_like(centred), where=varies)
    values = order.mean(axis=0) + 2.0 * order.std(axis=0).mean() * standard
    rows = range(0, len(order), max(1, POOLED // order.shape[1]))
    merged = [_isotonic(values[at : at + rows.step], order[at : at + rows.step]) for at in rows]
    return np.concatenate(merged) + 1e-3 * order


def _isotonic(values: Array, order: Array) -> Array:
    """Isotonic regression (N, T) of `values` on each spot's `order`; ties stay tied.

    All spots at once: adjacent values that decrease are pooled until none do.
    """
    spots, types = order.shape
    sorting = np.argsort(order, axis=1)
    level = np.take_along_axis(order, sorting, axis=1)
    sums = np.take_along_axis(values, sorting, axis=1).ravel()
    new = np.ones((spots, types), bool)  # first of each pool
    new[:, 1:] = level[:, 1:] > level[:, :-1]
    starts = np.flatnonzero(new)
    counts, pooled = np.diff(starts, append=spots * types), np.add.reduceat(sums, starts)
    while True:
        means = pooled / counts
        falls = (means[1:] < means[:-1]) & (starts[1:] % types > 0)
        if not falls.any():
            break
        kept = np.flatnonzero(np.concatenate([[True], ~falls]))
        starts = starts[kept]
        counts, pooled = np.add.reduceat(counts, kept), np.add.reduceat(pooled, kept)
    found = np.empty((spots, types))
    np.put_along_axis(found, sorting, np.repeat(means, counts).reshape(spots, types), axis=1)
    return found
