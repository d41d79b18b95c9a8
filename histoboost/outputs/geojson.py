"""Write predictions as GeoJSON objects for QuPath."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.io import write_whole
from histoboost.outputs.colours import dominant_types, type_colours
from histoboost.outputs.ids import prediction_id
from histoboost.outputs.tiles import Tile

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction


def write_geojson(path: Path, prediction: Prediction) -> None:
    """Write a feature collection with one tile object per spot (QuPath 0.4 or newer).

    Coordinates are pixels of the slide at full resolution. Measurements are the cell types, their
    intervals and novelty; the class is the dominant type (not in units "rank-slide"). Ids depend
    only on the predictions.
    """

    def write(target: Path) -> None:
        with target.open("w", encoding="utf-8", newline="\n") as file:
            units = json.dumps(prediction.units)  # QuPath ignores unknown members
            file.write(f'{{"type":"FeatureCollection","units":{units},"features":[')
            for number, feature in enumerate(_features(prediction)):
                file.write(",\n" if number else "\n")
                file.write(json.dumps(feature, separators=(",", ":"), allow_nan=False))
            file.write("\n]}\n")

    write_whole(path, write)


def _features(prediction: Prediction) -> Iterator[dict[str, Any]]:
    spots, types = prediction.spots, prediction.cell_types
    outline = Tile.from_spots(spots.xy).outline
    outline = np.concatenate([outline, outline[:1]])
    frame = prediction.numbers()
    names, values = list(frame.columns), frame.to_numpy(dtype=np.float64)
    colours = type_colours(types)
    classes = [{"name": name, "color": list(colours[name])} for name in types]
    dominant, namespace = dominant_types(prediction), prediction_id(prediction)
    for i, spot in enumerate(spots.spot_ids):
        properties: dict[str, Any] = {"objectType": "tile", "name": spot}
        if dominant is not None:
            properties["classification"] = classes[dominant[i]]
        properties["measurements"] = {
            name: float(f"{number:.6g}") for name, number in zip(names, values[i], strict=True)
        }
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(namespace, spot)),
            "geometry": {
                "type": "Polygon",
                "coordinates": [np.round(outline + spots.xy[i], 2).tolist()],
            },
            "properties": properties,
        }
