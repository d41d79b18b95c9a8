"""Scores of predictions: correlations per spot and per cell type, and errors of shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import rankdata

from histoboost.errors import BadInput


def spearman(a: ArrayLike, b: ArrayLike, axis: int) -> NDArray[np.float64]:
    """Spearman correlation of `a` and `b` along `axis`, ties with their average rank.

    Parameters
    ----------
    a, b : array-like of shape (N, T)
        Predicted and true abundances, in any unit.
    axis : int
        1 compares cell types within each spot, 0 compares spots within each cell type.

    Returns
    -------
    ndarray of shape (N,) or (T,)
        0 where one of the two is constant: the correlation is undefined there, and a prediction
        that says nothing earns nothing.

    Raises
    ------
    HistoboostError
        If the shapes differ or a value is not finite.
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
    """`spearman` of what `centred_ranks` says of both; one row of `x` stands for all spots."""
    scale = np.sqrt((x * x).sum(axis) * (y * y).sum(axis))
    product: NDArray[np.float64] = (x * y).sum(axis)
    return np.asarray(np.divide(product, scale, out=np.zeros_like(product), where=scale > 0))


def centred_ranks(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Ranks along an axis less their mean, ties with their average; all must be finite."""
    if not np.isfinite(values).all():
        raise BadInput("spearman: some values are not finite; remove those spots first")
    ranks: NDArray[np.float64] = rankdata(values, axis=axis)
    centred: NDArray[np.float64] = ranks - (values.shape[axis] + 1) / 2
    return centred


def spot_spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over spots of the Spearman correlation across cell types, the field's score.

    Parameters
    ----------
    predicted, true : array-like of shape (N, T)
        Abundances, in any unit.

    Returns
    -------
    float
        Between -1 and 1; spots where either is constant count as 0.
    """
    return float(spearman(predicted, true, axis=1).mean())


def type_spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over cell types of the Spearman correlation across the spots of one slide.

    Parameters
    ----------
    predicted, true : array-like of shape (N, T)
        Abundances, in any unit.

    Returns
    -------
    float
        Between -1 and 1; types where either is constant count as 0.
    """
    return float(spearman(predicted, true, axis=0).mean())


def pearson(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation (T,) of the columns of `a` and `b`, (N, T); 0 where one is constant."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not len(first):
        return np.zeros(first.shape[1])
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    # Rounding makes constants of 1e-17; they are constants all the same.
    flat = (np.ptp(first, axis=0) < 1e-12) | (np.ptp(second, axis=0) < 1e-12)
    scale = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    zero = np.zeros(first.shape[1])
    return np.asarray(np.divide((x * y).sum(axis=0), scale, out=zero, where=~flat & (scale > 0)))


def share_rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean square difference of shares (N, T), over spots and cell types."""
    difference = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    return float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0


def share_jsd(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over spots of the Jensen-Shannon divergence of shares (N, T), in bits (Lin 1991).

    Returns
    -------
    float
        0 where all shares are equal, 1 where predicted and true cell types have none in common.
    """
    p, q = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    middle = (p + q) / 2
    bits = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / (2 * np.log(2))
    return float(bits.mean()) if len(bits) else 0.0
