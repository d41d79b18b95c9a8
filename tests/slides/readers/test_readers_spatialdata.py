"""SpatialData stores: what is read, and errors in one clear line."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.images.base import bands
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Slide

pytest.importorskip(
    "spatialdata", reason="pip install 'histoboost[spatialdata]'", exc_type=ImportError
)
pytestmark = pytest.mark.filterwarnings("ignore")

Build = Callable[..., Any]


def slides_of(sdata: Any, folder: Path) -> list[Slide]:
    sdata.write(folder / "slide.zarr")
    return list(open_dataset(folder / "slide.zarr").slides)


@pytest.mark.parametrize("pyramid", [False, True])
def test_the_slide_is_read_back(tmp_path: Path, make_sdata: Build, same_slide, pyramid: bool):
    (slide,) = slides_of(make_sdata(pyramid), tmp_path)
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
    (slide,) = slides_of(sdata, tmp_path)
    # Image (x, y) lies at (7 - y / 2, 3 + x / 2) of the system that holds the circles.
    full = source.xy[[source.spot_ids.index(spot) for spot in slide.spot_ids]] * 4
    np.testing.assert_allclose(slide.xy[:, 0], (full[:, 1] - 3) * 2)
    np.testing.assert_allclose(slide.xy[:, 1], (7 - full[:, 0]) * 2)


def test_without_a_table_the_circles_are_spots_without_labels(tmp_path: Path, make_sdata: Build):
    sdata = make_sdata()
    del sdata.tables["table"]
    (slide,) = slides_of(sdata, tmp_path)
    assert not slide.labelled
    assert "100" in slide.spot_ids


def test_rows_without_a_circle_are_counted(tmp_path: Path, make_sdata: Build, source):
    sdata = make_sdata()
    sdata.shapes["P_1"] = sdata.shapes["P_1"].drop(index=[100, 101])
    with pytest.warns(HistoboostWarning, match="2 of .* rows of the table belong to no shape"):
        (slide,) = slides_of(sdata, tmp_path)
    assert len(slide.xy) == len(source.xy) - 2


def no_shared_system(sdata: Any) -> None:
    from spatialdata.transformations import Identity, set_transformation

    set_transformation(sdata.shapes["P_1"], {"elsewhere": Identity()}, set_all=True)


def no_common_instance(sdata: Any) -> None:
    sdata.shapes["P_1"].index = sdata.shapes["P_1"].index + 5000


def polygons(sdata: Any, name: str = "P_1") -> None:
    from spatialdata.models import ShapesModel

    circles = sdata.shapes["P_1"]
    shapes = circles.set_geometry(circles.buffer(3)).drop(columns="radius")
    sdata.shapes[name] = ShapesModel.parse(shapes)


def no_circles(sdata: Any) -> None:
    del sdata.shapes["P_1"]


@pytest.mark.parametrize(
    ("message", "damage"),
    [
        ("shares no coordinate system with an image", no_shared_system),
        ("no row of the table belongs to one of its shapes", no_common_instance),
        ("are not circles or points", polygons),
        ("no such shapes, though a table annotates them", no_circles),
    ],
)
def test_a_store_that_does_not_fit_together_is_one_clear_line(
    tmp_path: Path, make_sdata: Build, message: str, damage: Callable
):
    sdata = make_sdata()
    damage(sdata)
    with pytest.raises(HistoboostError, match=f"slide.zarr: .*{message}"):
        slides_of(sdata, tmp_path)


@pytest.mark.parametrize(
    "lost", ["images/P_1_hires/*0", "shapes/P_1/shapes.parquet", "tables/table"]
)
def test_a_store_that_lost_a_part_is_one_clear_line(tmp_path: Path, make_sdata: Build, lost: str):
    path = tmp_path / "slide.zarr"
    make_sdata().write(path)
    (part,) = path.glob(lost)
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(HistoboostError, match=str(path)):
        open_dataset(path)


def rename(sdata: Any, name: str, images: dict[str, str]) -> Any:
    """Rename the circles to `name`, and the images from old to new names."""
    from spatialdata import SpatialData

    table = sdata.tables["table"]
    table.obs["region"] = pd.Categorical([name] * len(table))
    table.uns["spatialdata_attrs"]["region"] = name
    table.obs_names = [f"{spot}-{name}" for spot in table.obs_names]
    table.obsm["cell_types"].index = table.obs_names
    return SpatialData(
        images={new: sdata.images[old] for old, new in images.items()},
        shapes={name: sdata.shapes["P_1"]},
        tables={f"table_{name}": table},
    )


def put_together(*stores: Any) -> Any:
    from spatialdata import SpatialData

    return SpatialData(
        images={key: value for store in stores for key, value in store.images.items()},
        shapes={key: value for store in stores for key, value in store.shapes.items()},
        tables={key: value for store in stores for key, value in store.tables.items()},
    )


def test_of_two_samples_in_one_system_each_goes_on_the_image_of_its_name(
    tmp_path: Path, make_sdata: Build, source
):
    one = rename(make_sdata(), "A", {"P_1_hires": "A_hires_image"})
    two = rename(make_sdata(True), "A_2", {"P_1_hires": "A_2_hires_image"})
    slides = slides_of(put_together(one, two), tmp_path)
    assert [slide.image.path.name for slide in slides] == ["A_hires_image", "A_2_hires_image"]
    assert all(len(slide.xy) == len(source.xy) for slide in slides)


def test_of_two_samples_in_one_system_no_image_is_guessed(tmp_path: Path, make_sdata: Build):
    one = rename(make_sdata(), "A", {"P_1_hires": "first"})
    two = rename(make_sdata(), "B", {"P_1_hires": "second"})
    with pytest.raises(HistoboostError, match="image first may belong to A or to B"):
        slides_of(put_together(one, two), tmp_path)
    (tmp_path / "slides.csv").write_text(
        "slide,image,spots,abundances\nA,images/first,slide.zarr,tables/table_A\n"
        "B,images/second,slide.zarr,tables/table_B/obsm/cell_types\n"
    )
    slides = open_dataset(tmp_path / "slides.csv").slides
    assert [slide.image.path.name for slide in slides] == ["first", "second"]
    assert {spot[-1] for spot in slides[1].spot_ids} == {"B"}


def add_image(sdata: Any, name: str, pixels: np.ndarray, channels: list[str]) -> None:
    """Add an image (c, y, x) with the transformations of the hires one."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import get_transformation

    options = {"transformations": get_transformation(sdata.images["P_1_hires"], get_all=True)}
    sdata.images[name] = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), c_coords=channels, **options
    )


def test_a_fluorescence_image_beside_the_stain_is_passed_over(tmp_path, make_sdata, same_slide):
    sdata = make_sdata()
    shape = sdata.images["P_1_hires"].shape[1:]
    for names in (["DAPI"], ["DAPI", "CD3", "CD8"]):
        add_image(sdata, f"P_1_{len(names)}", np.zeros((len(names), *shape), np.uint8), names)
    (slide,) = slides_of(sdata, tmp_path)
    same_slide(slide)
    row = "P_1,images/P_1_3,slide.zarr\n"
    (tmp_path / "slides.csv").write_text("slide,image,spots\n" + row)
    with pytest.raises(HistoboostError, match="images/P_1_3: has the channels DAPI, CD3, CD8"):
        open_dataset(tmp_path / "slides.csv")


def test_channels_are_read_by_their_names(tmp_path: Path, make_sdata: Build, pixels, same_slide):
    sdata = make_sdata()
    add_image(sdata, "P_1_hires", np.moveaxis(pixels[..., ::-1], -1, 0), ["b", "g", "r"])
    (slide,) = slides_of(sdata, tmp_path)
    same_slide(slide)


def test_an_annotated_polygon_beside_the_circles_is_left_out_with_a_warning(
    tmp_path: Path, make_sdata: Build, same_slide
):
    from spatialdata.models import TableModel

    sdata = make_sdata()
    polygons(sdata, "regions")
    table = sdata.tables["table"].copy()
    table.obs["region"] = pd.Categorical(["regions"] * len(table))
    del table.uns["spatialdata_attrs"]
    sdata.tables["other"] = TableModel.parse(
        table, region="regions", region_key="region", instance_key="instance"
    )
    with pytest.warns(HistoboostWarning, match="regions is left out: its shapes are not circles"):
        (slide,) = slides_of(sdata, tmp_path)
    same_slide(slide)


def test_of_two_tables_on_one_element_the_option_chooses(tmp_path: Path, make_sdata, source):
    sdata = make_sdata()
    second = sdata.tables["table"].copy()
    second.obsm["cell_types"] = second.obsm["cell_types"] * 2
    sdata.tables["second"] = second
    with pytest.raises(HistoboostError, match="tables second, table|tables table, second") as error:
        slides_of(sdata, tmp_path)
    assert "abundances = tables/" in str(error.value)
    (tmp_path / "slides.csv").write_text("slide,spots,abundances\nP_1,slide.zarr,tables/second\n")
    (slide,) = open_dataset(tmp_path / "slides.csv").slides
    order = [source.spot_ids.index(spot) for spot in slide.spot_ids]
    np.testing.assert_allclose(slide.abundance, 2 * source.abundance[order], rtol=1e-6)


@pytest.mark.parametrize("count", [15, pytest.param(500, marks=pytest.mark.soak)])
def test_a_damaged_store_is_read_or_refused_in_one_line(tmp_path, make_sdata, fuzz, count):
    path = tmp_path / "slide.zarr"
    make_sdata().write(path)
    fuzz(path, count, lambda: [list(bands(slide.image)) for slide in open_dataset(path).slides])
