"""Spatial smoothing of predictions, slide by slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.neighbors import ring_mean


def smooth(
    predicted: NDArray[np.float64], xy: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Take `share` of every spot's prediction from the mean over its direct neighbours.

    Parameters
    ----------
    predicted : ndarray of shape (N, T)
        In any unit.
    xy : ndarray of shape (N, 2)
        Spot centres of the same slide.
    share : float
        0 changes nothing, 1 leaves the neighbours' mean.

    Returns
    -------
    ndarray of shape (N, T)
        Where all spots agree, nothing changes.
    """
    if share == 0.0:
        return predicted
    return np.asarray((1.0 - share) * predicted + share * (ring_mean(xy, 1) @ predicted))
