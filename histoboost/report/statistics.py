"""Statistics of cell types for the exploration page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

Matrix = NDArray[np.floating[Any]]

#: Shares of a spot below this count as absent: deconvolution returns noise there, rarely exactly 0.
LITTLE = 0.01

#: Quantiles of a box plot: whiskers, quartiles and median.
BOX = (0.05, 0.25, 0.5, 0.75, 0.95)


def boxes(abundance: Matrix) -> Matrix:
    """`BOX` quantiles of each type, (T, 5)."""
    return np.asarray(np.quantile(abundance.astype(float), BOX, axis=0).T)


def sparsity(abundance: Matrix) -> Matrix:
    """Fraction of spots in which the share of each type is below `LITTLE`, (T,)."""
    total = abundance.sum(axis=1, keepdims=True, dtype=float)
    return np.asarray((abundance < LITTLE * total).mean(axis=0) + (total <= 0).mean())


def mean_ranks(abundance: Matrix) -> Matrix:
    """Mean rank of each type within the spot, (T,); 1 = most abundant, as `--units rank`."""
    return np.asarray(rankdata(abundance, axis=1).mean(axis=0) / abundance.shape[1])


def moran(abundance: Matrix, graph: csr_array) -> Matrix:
    """Moran's I of each type over a spot graph, (T,); NaN for constant types.

    ``I = (N / sum(w)) * sum_ij(w_ij z_i z_j) / sum_i(z_i ** 2)``, with deviations z of the
    abundances (N, T) from the mean and weights w of the graph, (N, N) with zero diagonal (Moran
    1950).
    """
    z = abundance.astype(float) - abundance.mean(axis=0, dtype=float)
    # Deviations of a constant column are rounding errors, not exact zeros.
    spread = (z**2).sum(axis=0)
    constant = np.ptp(abundance, axis=0) == 0
    weight = graph.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        value = len(z) / weight * (z * (graph @ z)).sum(axis=0) / spread
    return np.where(constant | (weight == 0), np.nan, value)


def spearman_matrix(abundance: Matrix) -> Matrix:
    """Spearman correlation between types over spots, (T, T); NaN for constant types."""
    ranks = rankdata(abundance, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.corrcoef(ranks, rowvar=False)).reshape((abundance.shape[1],) * 2)


def similar_first(correlation: Matrix) -> list[int]:
    """Order types so that correlated ones are neighbours (average linkage)."""
    if len(correlation) < 3:
        return list(range(len(correlation)))
    distance = 1 - np.nan_to_num(correlation, nan=0.0)
    distance = np.clip((distance + distance.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return [int(leaf) for leaf in leaves_list(tree)]
