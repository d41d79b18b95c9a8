"""Predictions as SpatialData, read back and plotted with spatialdata-plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostError
from histoboost.outputs.predictions import check_prediction_output, write_predictions
from histoboost.slides.readers import open_dataset

spatialdata = pytest.importorskip(
    "spatialdata", reason="pip install 'histoboost[spatialdata]'", exc_type=ImportError
)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def written(tmp_path: Path, mapped) -> Path:
    path = tmp_path / "out.zarr"
    check_prediction_output(path)
    assert write_predictions(path, mapped) == [path, path]
    return path


def test_the_table_annotates_the_circles_of_every_slide(written, mapped):
    sdata = spatialdata.read_zarr(written)
    assert set(sdata.shapes) == {"S_1", "S_2"}
    assert set(sdata.images) == {"S_1_image", "S_2_image"}
    for each in mapped:
        for column, expected in (("T cell", each.values[:, 0]), ("novelty", each.novelty)):
            values = spatialdata.get_values(
                column, sdata=sdata, element_name=each.slide, table_name="table"
            )
            np.testing.assert_allclose(values.iloc[:, 0], expected, rtol=1e-6)
        places = sdata.shapes[each.slide].geometry
        np.testing.assert_allclose(np.stack([places.x, places.y], axis=1), each.spots.xy)


def test_anndata_reads_the_table_alone(written, mapped):
    anndata = pytest.importorskip("anndata")
    adata = anndata.read_zarr(written / "tables" / "table")
    assert list(adata.var_names) == list(mapped[0].cell_types)
    assert "prediction" in adata.obsm


def test_histoboost_reads_its_slides_again(written, mapped):
    assert [slide.name for slide in open_dataset(written).slides] == ["S_1", "S_2"]


def test_a_map_is_drawn(written, tmp_path):
    pytest.importorskip("spatialdata_plot")
    import matplotlib

    matplotlib.use("agg")
    sdata = spatialdata.read_zarr(written)
    layers = sdata.pl.render_images("S_1_image").pl.render_shapes("S_1", color="T cell")
    layers.pl.show(coordinate_systems="S_1", save=tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_slides_with_the_same_name_in_spatialdata_are_refused(tmp_path, mapped):
    twins = [
        replace(e, spots=replace(e.spots, slide=s))
        for e, s in zip(mapped, ("A 1", "A_1"), strict=True)
    ]
    with pytest.raises(HistoboostError, match="slide A_1: becomes A_1 in SpatialData"):
        write_predictions(tmp_path / "out.zarr", twins)
    assert not (tmp_path / "out.zarr").exists()
