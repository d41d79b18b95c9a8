"""Write predictions as an interactive map: one HTML file that works offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.io import write_text
from histoboost.outputs.colours import type_colours
from histoboost.outputs.encode import floats, jpeg
from histoboost.outputs.html import asset, html_page
from histoboost.outputs.scales import UNIT_NAMES, is_share, value_range
from histoboost.outputs.tiles import Tile
from histoboost.spots import spot_pitch

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

#: Levels into which each column is quantised, finer than what is displayed; uint16 takes half the
#: space of float32.
_STEPS = 65535


def write_map_page(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a page with a selector of slides and types, and the slide under the map.

    The colour scale of a type ranges from 0 to its 99.5th percentile over all slides on the page.
    """
    first = predictions[0]
    values = np.concatenate([each.values for each in predictions])
    slides = ", ".join(each.slide for each in predictions[:4])
    colours = type_colours(first.cell_types)
    data = {
        "title": f"{slides}{', ...' if len(predictions) > 4 else ''}: cell types",
        "units": UNIT_NAMES[first.units],
        "percent": is_share(first.units),
        "dominant": first.units != "rank-slide",
        "types": list(first.cell_types),
        "colours": [colours[name] for name in first.cell_types],
        "ranges": [value_range(column, first.units) for column in values.T],
        "slides": [_slide(each) for each in predictions],
    }
    write_text(path, html_page(asset("map.html"), data, [asset("map.js")]))


def _slide(prediction: Prediction) -> dict[str, Any]:
    """Collect what `map.js` needs of a slide; matrices are column-major."""
    spots = prediction.spots
    least, most = prediction.values.min(axis=0), prediction.values.max(axis=0)
    step = np.maximum(most - least, 1e-12) / _STEPS
    height, width = spots.image_shape or (0, 0)
    return {
        "name": spots.slide,
        "n": len(spots),
        "height": height,
        "width": width,
        "pitch": spot_pitch(spots.xy) or 1.0,
        "um_per_px": spots.um_per_px,
        "outline": Tile.from_spots(spots.xy).outline.round(2).tolist(),
        "image": None if spots.thumbnail is None or not width else jpeg(spots.thumbnail),
        "xy": floats(spots.xy.T),
        "ids": list(spots.spot_ids),
        "least": least.tolist(),
        "step": step.tolist(),
        "values": _uint16((prediction.values - least) / step),
        "novelty": None if prediction.novelty is None else floats(prediction.novelty),
        "novel_share": prediction.novel_share,
        "warnings": list(prediction.warnings),
    }


def _uint16(values: NDArray[np.float64]) -> str:
    """Encode as base64 of little-endian uint16."""
    rounded = np.ascontiguousarray(values.T.round(), dtype="<u2")
    return base64.b64encode(rounded.tobytes()).decode("ascii")
