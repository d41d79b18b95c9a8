"""Slides as the pages see them, whether they come from a dataset or from a store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.outputs.encode import floats, jpeg
from histoboost.spots import SpotTable, spot_pitch


def slide_payload(spots: SpotTable) -> dict[str, Any]:
    """What `map.js` needs of a slide: its measures, its picture and its spots."""
    height, width = spots.image_shape or _around(spots.xy)
    counted = tuple(str(i) for i in range(len(spots)))
    return {
        "name": spots.slide,
        "split": spots.split,
        "group": spots.group,
        "labelled": spots.labelled,
        "n": len(spots),
        "height": height,
        "width": width,
        "pitch": round(spot_pitch(spots.xy) or 1.0, 3),
        "um_per_px": spots.um_per_px,
        "image": None if spots.thumbnail is None else jpeg(spots.thumbnail),
        # Column after column, as every matrix on the page.
        "xy": floats(spots.xy.T),
        "ids": None if spots.spot_ids == counted else list(spots.spot_ids),
    }


def _around(xy: NDArray[np.float64]) -> tuple[int, int]:
    """Height and width of an image, at least, that has spots there."""
    width, height = np.ceil(xy.max(axis=0)).astype(int)
    return max(1, int(height)), max(1, int(width))
