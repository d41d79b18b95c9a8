"""Scores: correlations per spot and per cell type, and errors of shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import rankdata

from histoboost.errors import BadInput


def spearman(a: ArrayLike, b: ArrayLike, axis: int) -> NDArray[np.float64]:
    """Spearman correlation, with average ranks for ties, of predicted and true values (N, T).

    `axis` 1 compares cell types within each spot, (N,), 0 spots within each cell type, (T,). It is
    0 where one of them is constant: undefined, and uninformative predictions earn nothing.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise BadInput(
            f"spearman: shapes {first.shape} and {second.shape}; give two equal (spots, types)"
        )
    return correlation_of_ranks(centred_ranks(first, axis), centred_ranks(second, axis), axis)


def correlation_of_ranks(
    x: NDArray[np.float64], y: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """`spearman` from `centred_ranks`; `x` may be a single row for all spots."""
    scale = np.sqrt((x * x).sum(axis) * (y * y).sum(axis))
    product: NDArray[np.float64] = (x * y).sum(axis)
    return np.asarray(np.divide(product, scale, out=np.zeros_like(product), where=scale > 0))


def centred_ranks(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Ranks along an axis minus their mean, with average ranks for ties."""
    if not np.isfinite(values).all():
        raise BadInput("spearman: some values are not finite; remove those spots first")
    ranks: NDArray[np.float64] = rankdata(values, axis=axis)
    centred: NDArray[np.float64] = ranks - (values.shape[axis] + 1) / 2
    return centred


def spot_spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over spots of the Spearman correlation across cell types of abundances (N, T)."""
    return float(spearman(predicted, true, axis=1).mean())


def type_spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over cell types of the Spearman correlation across spots of abundances (N, T)."""
    return float(spearman(predicted, true, axis=0).mean())


def pearson(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation (T,) of columns (N, T); 0 where one is constant."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not len(first):
        return np.zeros(first.shape[1])
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    # Rounding makes constants vary by 1e-17.
    flat = (np.ptp(first, axis=0) < 1e-12) | (np.ptp(second, axis=0) < 1e-12)
    scale = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    zero = np.zeros(first.shape[1])
    return np.asarray(np.divide((x * y).sum(axis=0), scale, out=zero, where=~flat & (scale > 0)))


def share_rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean squared error of shares (N, T) over spots and cell types."""
    difference = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    return float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0


def share_jsd(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over spots of the Jensen-Shannon divergence of shares (N, T), in bits (Lin 1991).

    0 if all shares are equal, 1 if predicted and true cell types are disjoint.
    """
    p, q = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    middle = (p + q) / 2
    bits = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / (2 * np.log(2))
    return float(bits.mean()) if len(bits) else 0.0
