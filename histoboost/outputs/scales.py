"""Ranges of colour scales, and names of units on maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Minimum upper end of a scale of shares, so that noise does not look like a pattern.
LEAST_SHARE = 0.02


def value_range(values: NDArray[np.float64], units: str) -> tuple[float, float]:
    """Range of the colour scale of one cell type.

    0 to 1 for ranks; otherwise 0, or the 0.5th percentile if lower, to the 99.5th percentile.
    """
    if units in ("rank", "rank-slide", "minmax"):
        return 0.0, 1.0
    least, most = np.percentile(values, [0.5, 99.5])
    floor = LEAST_SHARE if is_share(units) else 1e-9
    return min(0.0, float(least)), max(float(most), floor)


def is_share(units: str) -> bool:
    """Whether the types of a spot sum to 1, so that values are shown in percent."""
    return units in ("share", "softmax")


#: Names of the units on maps.
UNIT_NAMES = {
    "share": "share of the spot",
    "softmax": "share of the spot",
    "abundance": "abundance",
    "rank": "rank within the spot",
    "rank-slide": "rank over the slide",
    "minmax": "scaled to 0 to 1 within the spot",
    "none": "raw model output",
}
