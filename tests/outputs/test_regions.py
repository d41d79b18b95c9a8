"""Regions drawn in QuPath, and the mean predictions in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.outputs.regions import region_means, regions_path
from histoboost.slides.regions import Region, read_regions


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


RING = feature("Polygon", [square(30, 30, 80), square(50, 50, 30)], name="ring")
TWO = feature(
    "MultiPolygon",
    [[square(0, 0, 55)], [square(95, 65, 50)]],
    classification={"name": "Tumor", "color": [200, 0, 0]},
)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    point = feature("Point", [1, 2])
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [RING, point, TWO]}))
    return path


def test_containment_and_area_agree_with_shapely(drawn):
    places = np.random.default_rng(0).uniform(0, 160, (500, 2))
    for region, source in zip(read_regions(drawn), (RING, TWO), strict=True):
        shape = shapely.from_geojson(json.dumps(source["geometry"]))
        expected = shapely.contains_xy(shape, *places.T)
        np.testing.assert_array_equal(region.contains(places), expected)
        assert region.area == pytest.approx(shape.area)


@pytest.mark.parametrize("seed", range(6))
def test_the_area_is_that_of_the_points_inside_even_if_the_outline_crosses_itself(seed):
    rng = np.random.default_rng(seed)
    region = Region("", "", tuple(rng.uniform(0, 100, (rng.integers(3, 9), 2)) for _ in range(2)))
    places = np.stack(np.meshgrid(*[np.arange(0.1, 100, 0.2)] * 2), axis=-1).reshape(-1, 2)
    assert region.area == pytest.approx(region.contains(places).mean() * 100**2, rel=0.01)


def test_a_region_has_its_name_or_class_in_qupath(drawn):
    assert [(region.name, region.label) for region in read_regions(drawn)] == [
        ("ring", ""),
        ("Tumor", "Tumor"),
    ]


def test_the_table_has_the_means_over_the_spots_inside(drawn, mapped):
    table = region_means(mapped, drawn)
    assert list(table["slide"]) == ["S_1", "S_1", "S_2", "S_2"]
    x, y = mapped[0].spots.xy.T
    inside = ((x < 55) & (y < 55)) | ((x > 95) & (x < 145) & (y > 65) & (y < 115))
    assert table["spots"][1] == inside.sum() > 0
    np.testing.assert_allclose(
        table.loc[1, list(mapped[0].cell_types)].astype(float),
        mapped[0].values[inside].mean(axis=0),
    )
    assert table["novelty"][1] == pytest.approx(mapped[0].novelty[inside].mean())
    assert table["area_mm2"][1] == pytest.approx((55**2 + 50**2) * 0.0005**2)


def test_each_slide_may_have_a_file_of_its_own(tmp_path, mapped):
    for number, name in enumerate(("S_1", "S_2")):
        (tmp_path / f"{name}.geojson").write_text(json.dumps([RING] * (number + 1)))
    table = region_means(mapped, tmp_path / "{slide}.geojson")
    assert list(table["slide"]) == ["S_1", "S_2", "S_2"]
    values = [*mapped[0].cell_types, "novelty"]
    assert list(table.columns) == ["region", "class", "slide", "spots", "area_mm2", *values]


@pytest.mark.parametrize(
    ("output", "table"),
    [
        ("a/b.1.png", "a/b.1.regions.csv"),
        ("b.ome.tif", "b.regions.csv"),
        ("a/{slide}.png", "a/regions.csv"),
    ],
)
def test_each_map_in_a_folder_has_its_own_table_of_regions(output, table):
    assert regions_path(Path(output)) == Path(table)


def test_regions_outside_the_spots_raise_a_warning(tmp_path, mapped):
    path = tmp_path / "far.geojson"
    path.write_text(json.dumps(feature("Polygon", [square(9000, 9000, 10)])))
    with pytest.warns(HistoboostWarning, match="no spot of slide S_1 is inside a region"):
        table = region_means(mapped[:1], path)
    assert table["spots"][0] == 0
    assert np.isnan(table["T cell"][0])


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "[3]", '{"features": 3}', '{"features": [{"geometry": {"type": "Polygon"}}]}']
    + [json.dumps(feature("Polygon", coordinates)) for coordinates in ([], [[[1, 2]]], "x")]
    + [json.dumps(feature("Point", [1, 2])), '{"features": []}', "[" * 100_000],
)
def test_a_file_without_regions_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "drawn.geojson"
    path.write_text(text)
    with pytest.raises(HistoboostError, match=r"drawn.geojson: c.* QuPath") as caught:
        read_regions(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HistoboostError, match=r"absent.geojson: No such file"):
        read_regions(tmp_path / "absent.geojson")
