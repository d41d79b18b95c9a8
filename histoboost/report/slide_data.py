"""Data of a slide for the pages of `explore` and `report`."""

from __future__ import annotations

from typing import Any

import numpy as np

from histoboost.outputs.encode import floats, jpeg
from histoboost.spots import SpotTable, spot_pitch


def slide_payload(spots: SpotTable) -> dict[str, Any]:
    """Collect what `map.js` needs of a slide: size, image and spots; matrices are column-major."""
    height, width = spots.image_shape or np.ceil(spots.xy[:, ::-1].max(axis=0)).clip(1).tolist()
    row_numbers = tuple(str(i) for i in range(len(spots)))
    return {
        "name": spots.slide,
        "split": spots.split,
        "group": spots.group,
        "labelled": spots.labelled,
        "n": len(spots),
        "height": int(height),
        "width": int(width),
        "pitch": round(spot_pitch(spots.xy) or 1.0, 3),
        "um_per_px": spots.um_per_px,
        "image": None if spots.thumbnail is None else jpeg(spots.thumbnail),
        "xy": floats(spots.xy.T),
        "ids": None if spots.spot_ids == row_numbers else list(spots.spot_ids),
    }
