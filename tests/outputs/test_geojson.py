"""Predictions as GeoJSON for QuPath."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from histoboost.outputs.colours import type_colours
from histoboost.outputs.geojson import write_geojson


@pytest.fixture
def document(tmp_path: Path, mapped):
    write_geojson(tmp_path / "S_1.geojson", mapped[0])
    return json.loads((tmp_path / "S_1.geojson").read_text(encoding="utf-8"))


def test_every_spot_is_a_tile_around_its_centre(document, mapped):
    assert document["type"] == "FeatureCollection"
    assert document["units"] == "share"
    assert len(document["features"]) == len(mapped[0].spots)
    for feature, xy in zip(document["features"], mapped[0].spots.xy, strict=True):
        assert feature["type"] == "Feature"
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.geom_type == "Polygon"
        np.testing.assert_allclose(shape.centroid.coords[0], xy, atol=0.01)


def test_properties_are_those_of_qupath(document, mapped):
    prediction = mapped[0]
    colours = type_colours(prediction.cell_types)
    for i, feature in enumerate(document["features"]):
        properties = feature["properties"]
        assert properties["objectType"] == "tile"
        assert properties["name"] == prediction.spots.spot_ids[i]
        name = prediction.cell_types[prediction.values[i].argmax()]
        assert properties["classification"] == {"name": name, "color": list(colours[name])}
        assert list(properties["measurements"]) == [*prediction.cell_types, "novelty"]
        expected = [*prediction.values[i], prediction.novelty[i]]
        np.testing.assert_allclose([*properties["measurements"].values()], expected, rtol=1e-5)


def test_ids_are_unique_and_depend_only_on_the_predictions(tmp_path, document, mapped):
    ids = [uuid.UUID(feature["id"]) for feature in document["features"]]
    assert len(set(ids)) == len(ids)
    write_geojson(tmp_path / "again.geojson", mapped[0])
    assert json.loads((tmp_path / "again.geojson").read_text())["features"] == document["features"]
    write_geojson(tmp_path / "other.geojson", replace(mapped[0], values=mapped[0].values[::-1]))
    other = json.loads((tmp_path / "other.geojson").read_text())["features"]
    assert not {feature["id"] for feature in other} & set(map(str, ids))


def test_units_that_do_not_compare_types_have_no_dominant_type(tmp_path, mapped):
    write_geojson(tmp_path / "out.geojson", replace(mapped[0], units="rank-slide"))
    for feature in json.loads((tmp_path / "out.geojson").read_text())["features"]:
        assert "classification" not in feature["properties"]


def test_colours_depend_only_on_the_names():
    names = [f"type {i}" for i in range(60)]
    colours = type_colours(names)
    assert colours == type_colours(names[::-1])
    assert len(set(colours.values())) == 60
    assert all(0 <= part <= 255 for colour in colours.values() for part in colour)
