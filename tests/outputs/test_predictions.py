"""Predictions written in the format of the suffix."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import anndata
import numpy as np
import pandas as pd
import pytest

from histoboost.errors import HistoboostError
from histoboost.names import check_cell_type_names
from histoboost.outputs.colours import type_colours
from histoboost.outputs.predictions import check_prediction_output, write_predictions
from histoboost.regress.predictions import Prediction


@pytest.fixture
def predictions(mapped) -> list[Prediction]:
    """Predictions with intervals."""
    return [
        replace(each, units="rank", novelty=None, low=each.values - 1, high=each.values + 1)
        for each in mapped
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_has_slide_spot_position_types_and_intervals(tmp_path, predictions, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / f"out{suffix}"
    write_predictions(path, predictions)
    table = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    types = list(predictions[0].cell_types)
    bounds = [f"{name}_{end}" for end in ("lower", "upper") for name in types]
    assert list(table) == ["slide", "spot", "x", "y", *types, *bounds]
    assert list(table["slide"]) == [each.slide for each in predictions for _ in each.values]
    for columns, values in (
        (["x", "y"], [each.spots.xy for each in predictions]),
        (types, [each.values for each in predictions]),
        (bounds[:3], [each.low for each in predictions]),
        (bounds[3:], [each.high for each in predictions]),
    ):
        np.testing.assert_allclose(table[columns], np.concatenate(values), rtol=1e-6)


def test_anndata_holds_predictions_in_x_and_obsm(tmp_path, predictions):
    write_predictions(tmp_path / "out.h5ad", predictions)
    adata = anndata.read_h5ad(tmp_path / "out.h5ad")
    frame = adata.obsm["prediction"]
    assert list(frame.columns) == ["T cell", "B cell", "C_D"]
    assert list(frame.index) == [f"{p.slide}:{s}" for p in predictions for s in p.spots.spot_ids]
    expected = np.vstack([each.values for each in predictions]).astype(np.float32)
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    np.testing.assert_array_equal(adata.X, expected)
    assert {"prediction_lower", "prediction_upper"} <= set(adata.obsm)
    assert list(adata.var_names) == list(predictions[0].cell_types)
    assert adata.uns["units"] == "rank"


def test_anndata_holds_novelty_and_the_dominant_type_with_its_colour(tmp_path, mapped):
    write_predictions(tmp_path / "out.h5ad", mapped)
    adata = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(adata.obs["novelty"], [*mapped[0].novelty, *mapped[1].novelty])
    expected = [mapped[0].cell_types[i] for each in mapped for i in each.values.argmax(axis=1)]
    dominant = adata.obs["dominant"]
    assert list(dominant) == expected
    colours = type_colours(mapped[0].cell_types)
    for name, colour in zip(dominant.cat.categories, adata.uns["dominant_colors"], strict=True):
        assert tuple(bytes.fromhex(colour[1:])) == colours[name]


@pytest.mark.skipif(find_spec("spatialdata") is not None, reason="spatialdata is installed")
def test_zarr_without_spatialdata_names_the_extra_before_the_work(tmp_path):
    with pytest.raises(HistoboostError, match=r"needs spatialdata; pip install .*\[spatialdata\]"):
        check_prediction_output(tmp_path / "out.zarr")


def test_a_submission_has_the_layout_of_the_challenge(tmp_path, mapped):
    path = tmp_path / "out.csv"
    write_predictions(path, mapped[1:], submission=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "ID,T cell,B cell,C/D"
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(12)]


@pytest.mark.parametrize("suffix", [".csv", ".h5ad", ".geojson", ".ome.tif", ".png", ".html"])
def test_a_name_with_a_slide_field_gives_one_file_per_slide(tmp_path, mapped, suffix):
    files = write_predictions(tmp_path / f"{{slide}}{suffix}", mapped)
    assert files == [tmp_path / f"S_1{suffix}", tmp_path / f"S_2{suffix}"]
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("suffix", [".geojson", ".ome.tif", ".png"])
def test_a_format_for_one_slide_needs_a_slide_field(tmp_path, mapped, suffix):
    path = tmp_path / f"out{suffix}"
    with pytest.raises(HistoboostError, match=f"{suffix} holds one slide") as caught:
        write_predictions(path, mapped)
    assert f"{{slide}}_out{suffix}" in str(caught.value)
    check_prediction_output(path, ["S_1"])
    (tmp_path / f"S_2{suffix}").mkdir()
    with pytest.raises(HistoboostError, match="S_2.* is a folder"):
        check_prediction_output(tmp_path / f"{{slide}}{suffix}", ["S_1", "S_2"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "out.xlsx",
            "unknown suffix '.xlsx'; give .csv, .parquet, .h5ad, .zarr, .geojson, .ome.tif, .png, "
            ".html",
        ),
        ("absent/out.h5ad", "no such folder"),
        ("there.zarr", "is a folder"),
        ("n" * 252 + ".csv", "its name is longer than 255 bytes"),
    ],
)
def test_an_unusable_path_is_refused_before_the_work(tmp_path, name, message):
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(HistoboostError, match=message):
        check_prediction_output(tmp_path / name)


ACCEPTED = [
    *("..x", "__x", "c", "x y", "a/b/c", "/", "index", "nan", "1", "CON", "a:b", "a\\b", "a*b"),
    *("<b>", "%s", "#", '"', "'", "a,b", ".zattrs", "encoding-type", "[/x]", "n" * 240),
]
REFUSED = [
    *("=1+1", "+x", "-x", "@x", "a\tb", "x", "y", "slide", "spot", "ID", "_index", "", "a\x1b[2J"),
    *(".", "..", "zarr.json", "n" * 241, "ok_lower", "B/T"),
]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5ad", ".geojson"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_cell_type_of_any_name_that_is_accepted_is_read_back_as_it_was_written(
    tmp_path, predictions, suffix, name
):
    types = ("ok", name, "B")
    check_cell_type_names(types, "model")
    path = tmp_path / f"out{suffix}"
    some = predictions[:1] if suffix == ".geojson" else predictions
    write_predictions(path, [replace(each, cell_types=types) for each in some])
    if suffix == ".geojson":
        found = pd.DataFrame(
            feature["properties"]["measurements"]
            for feature in json.loads(path.read_text(encoding="utf-8"))["features"]
        )[list(types)]
    elif suffix == ".h5ad":
        found = anndata.read_h5ad(path).obsm["prediction"]
        assert list(found.columns) == ["ok", name.replace("/", "_"), "B"]
    else:
        table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        found = table[list(types)]
    expected = np.vstack([each.values for each in some])
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_cell_type_that_some_output_could_not_hold_is_refused_in_one_line(name):
    with pytest.raises(HistoboostError, match=r"^model: .*rename") as caught:
        check_cell_type_names(("ok", "B_T", name), "model")
    assert str(caught.value).isprintable()
