"""Units of predictions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import rankdata

from histoboost.errors import BadInput
from histoboost.regress.joint import merge, split, to_shares
from histoboost.regress.targets import Target

#: Units of predictions, with their smallest and largest value.
UNITS = {
    "rank": (0.0, 1.0),
    "rank-slide": (0.0, 1.0),
    "share": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "minmax": (0.0, 1.0),
    "abundance": (-math.inf, math.inf),
    "none": (-math.inf, math.inf),
}


def to_units(predicted: NDArray[np.float64], units: str, target: Target) -> NDArray[np.float64]:
    """Convert predictions (N, ``target.width(T)``) of one slide to other units, (N, T).

    ``"rank"``: ranks within each spot, in (0, 1]; ``"rank-slide"``: ranks of each type over the
    slide, in (0, 1]; ``"share"``: abundance over the spot's sum; ``"softmax"`` and ``"minmax"``
    within each spot (0.5 if all are equal); ``"abundance"``: training units; ``"none"``: as
    predicted, with the joint target the order merged with the map. From the joint target, ranks and
    ``"minmax"`` within the spot use the order, ranks over the slide the map, all others the share.
    """
    if units not in UNITS:
        raise BadInput(f"units {units!r}: unknown; choose one of {', '.join(UNITS)}")
    if units == "abundance":
        return target.to_abundance(predicted)
    if target.name == "joint":
        joint = split(predicted)
        if units in ("share", "softmax"):
            return to_shares(joint.share)
        if units == "none":
            return merge(joint)
        predicted = joint.map if units == "rank-slide" else joint.order
    if units == "share" and target.name == "share":
        return to_shares(predicted)
    if units == "share":
        return to_shares(target.to_abundance(predicted))
    if units == "rank":
        return np.asarray(rankdata(predicted, axis=1) / predicted.shape[1])
    if units == "rank-slide":
        return np.asarray(rankdata(predicted, axis=0) / max(len(predicted), 1))
    if units == "softmax":
        return np.asarray(softmax(predicted, axis=1))
    if units == "minmax":
        low, high = predicted.min(axis=1, keepdims=True), predicted.max(axis=1, keepdims=True)
        half = np.full_like(predicted, 0.5)
        return np.asarray(np.divide(predicted - low, high - low, out=half, where=high > low))
    return predicted
