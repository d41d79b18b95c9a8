"""SpatialData stores: what is read, and the line that says what is wrong with them."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset

pytest.importorskip(
    "spatialdata", reason="pip install 'histoboost[spatialdata]'", exc_type=ImportError
)
pytestmark = pytest.mark.filterwarnings("ignore")

Build = Callable[..., Any]


@pytest.mark.parametrize("pyramid", [False, True])
def test_the_slide_comes_back(tmp_path: Path, make_sdata: Build, same_slide, pyramid: bool):
    path = tmp_path / "slide.zarr"
    make_sdata(pyramid).write(path)
    (slide,) = open_dataset(path).slides
    assert slide.name == "P_1"
    same_slide(slide)
    same_slide(pickle.loads(pickle.dumps(slide)))


def test_any_affine_transformation_between_spots_and_image_is_followed(
    tmp_path: Path, make_sdata: Build, source
):
    from spatialdata.transformations import Affine, set_transformation

    sdata = make_sdata()
    turned = Affine([[0, -0.5, 7], [0.5, 0, 3], [0, 0, 1]], ("x", "y"), ("x", "y"))
    del sdata.images["P_1_lowres"]
    set_transformation(sdata.images["P_1_hires"], turned, "P_1")
    sdata.write(tmp_path / "slide.zarr")
    (slide,) = open_dataset(tmp_path / "slide.zarr").slides
    # Image (x, y) lies at (7 - y / 2, 3 + x / 2) of the system that holds the circles.
    full = source.xy[[source.spot_ids.index(spot) for spot in slide.spot_ids]] * 4
    np.testing.assert_allclose(slide.xy[:, 0], (full[:, 1] - 3) * 2)
    np.testing.assert_allclose(slide.xy[:, 1], (7 - full[:, 0]) * 2)


def test_without_a_table_the_circles_are_spots_without_labels(tmp_path: Path, make_sdata: Build):
    sdata = make_sdata()
    del sdata.tables["table"]
    sdata.write(tmp_path / "slide.zarr")
    (slide,) = open_dataset(tmp_path / "slide.zarr").slides
    assert not slide.labelled
    assert "100" in slide.spot_ids


def test_rows_without_a_circle_are_counted(tmp_path: Path, make_sdata: Build, source):
    sdata = make_sdata()
    sdata.shapes["P_1"] = sdata.shapes["P_1"].drop(index=[100, 101])
    sdata.write(tmp_path / "slide.zarr")
    with pytest.warns(HistoboostWarning, match="2 of .* rows of the table belong to no shape"):
        (slide,) = open_dataset(tmp_path / "slide.zarr").slides
    assert len(slide.xy) == len(source.xy) - 2


def no_shared_system(sdata: Any) -> None:
    from spatialdata.transformations import Identity, set_transformation

    set_transformation(sdata.shapes["P_1"], {"elsewhere": Identity()}, set_all=True)


def no_common_instance(sdata: Any) -> None:
    sdata.shapes["P_1"].index = sdata.shapes["P_1"].index + 5000


def polygons(sdata: Any) -> None:
    from spatialdata.models import ShapesModel

    circles = sdata.shapes["P_1"]
    shapes = circles.set_geometry(circles.buffer(3)).drop(columns="radius")
    sdata.shapes["P_1"] = ShapesModel.parse(shapes)


def no_circles(sdata: Any) -> None:
    del sdata.shapes["P_1"]


@pytest.mark.parametrize(
    ("message", "damage"),
    [
        ("shares no coordinate system with an image", no_shared_system),
        ("no row of the table belongs to one of its shapes", no_common_instance),
        ("are no circles or points", polygons),
        ("no such shapes, though a table annotates them", no_circles),
    ],
)
def test_a_store_that_does_not_fit_together_is_one_clear_line(
    tmp_path: Path, make_sdata: Build, message: str, damage: Callable
):
    sdata = make_sdata()
    damage(sdata)
    sdata.write(tmp_path / "slide.zarr")
    with pytest.raises(HistoboostError, match=message) as error:
        open_dataset(tmp_path / "slide.zarr")
    assert "slide.zarr" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "lost", ["images/P_1_hires/*0", "shapes/P_1/shapes.parquet", "tables/table"]
)
def test_a_store_that_lost_a_part_is_one_clear_line(tmp_path: Path, make_sdata: Build, lost: str):
    path = tmp_path / "slide.zarr"
    make_sdata().write(path)
    (part,) = path.glob(lost)
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(HistoboostError) as error:
        open_dataset(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
