"""Predictions to a file, in the format of its suffix."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.names import check_cell_type_names
from histoboost.outputs.colours import type_colours
from histoboost.outputs.predictions import check_prediction_output, write_predictions
from histoboost.regress.predictions import Prediction
from histoboost.spots import SpotTable

TYPES = ["T cell", "B cell", "C/D"]


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path / "store.zarr")
    for slide, n in (("S_1", 4), ("S_2", 3)):
        xy = np.arange(2.0 * n).reshape(n, 2) * 10
        ids = tuple(f"BC{i}" for i in range(n))
        store.write_spots(SpotTable(slide=slide, xy=xy, spot_ids=ids, image_shape=(90, 80)))
    return store


@pytest.fixture
def predictions(store: EmbeddingStore) -> list[Prediction]:
    rng = np.random.default_rng(0)
    values = [rng.random((n, 3)) for n in (4, 3)]
    return [
        Prediction(store.spots(slide), tuple(TYPES), each, "rank", each - 1, each + 1)
        for slide, each in zip(("S_1", "S_2"), values, strict=True)
    ]


def test_parquet_names_slide_spot_and_place_of_every_row(tmp_path: Path, store, predictions):
    pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / "out.parquet"
    check_prediction_output(path)
    write_predictions(path, predictions)
    table = pd.read_parquet(path)
    bounds = [f"{name}_{end}" for end in ("lower", "upper") for name in TYPES]
    assert list(table.columns) == ["slide", "spot", "x", "y", *TYPES, *bounds]
    assert list(table["slide"]) == ["S_1"] * 4 + ["S_2"] * 3
    np.testing.assert_array_equal(table[["x", "y"]].iloc[4:], store.spots("S_2").xy)
    np.testing.assert_array_equal(table[TYPES].iloc[:4], predictions[0].values)
    np.testing.assert_array_equal(table["B cell_upper"].iloc[4:], predictions[1].high[:, 1])


def test_anndata_holds_predictions_in_obsm(tmp_path: Path, store, predictions):
    path = tmp_path / "out.h5ad"
    check_prediction_output(path)
    write_predictions(path, predictions)
    adata = anndata.read_h5ad(path)
    frame = adata.obsm["prediction"]
    assert list(frame.columns) == ["T cell", "B cell", "C_D"]
    assert list(frame.index) == [f"S_1:BC{i}" for i in range(4)] + [f"S_2:BC{i}" for i in range(3)]
    expected = np.vstack([each.values for each in predictions]).astype(np.float32)
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    assert {"prediction_lower", "prediction_upper"} <= set(adata.obsm)
    assert list(adata.var_names) == TYPES
    np.testing.assert_array_equal(adata.X, expected)
    assert adata.uns["units"] == "rank"


def test_anndata_tells_novelty_and_the_dominant_type_in_its_colour(tmp_path: Path, mapped):
    write_predictions(tmp_path / "out.h5ad", mapped)
    adata = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(adata.obs["novelty"], [*mapped[0].novelty, *mapped[1].novelty])
    expected = [mapped[0].cell_types[i] for each in mapped for i in each.values.argmax(axis=1)]
    assert list(adata.obs["dominant"]) == expected
    colours = type_colours(mapped[0].cell_types)
    for name, colour in zip(
        adata.obs["dominant"].cat.categories, adata.uns["dominant_colors"], strict=True
    ):
        assert tuple(bytes.fromhex(colour[1:])) == colours[name]


@pytest.mark.skipif(find_spec("spatialdata") is not None, reason="spatialdata is installed")
def test_zarr_without_spatialdata_names_the_extra_before_the_work(tmp_path: Path):
    with pytest.raises(HistoboostError, match=r"needs spatialdata; pip install .*\[spatialdata\]"):
        check_prediction_output(tmp_path / "out.zarr")


def test_csv_stays_the_challenges_layout(tmp_path: Path, store, predictions):
    path = tmp_path / "out.csv"
    check_prediction_output(path)
    write_predictions(path, [replace(predictions[0], low=None, high=None)], submission=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "ID,T cell,B cell,C/D"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2", "3"]


def test_a_csv_with_spots_is_the_table_of_parquet(tmp_path: Path, predictions):
    write_predictions(tmp_path / "out.csv", predictions)
    table = pd.read_csv(tmp_path / "out.csv")
    bounds = [f"{name}_{end}" for end in ("lower", "upper") for name in TYPES]
    assert list(table.columns) == ["slide", "spot", "x", "y", *TYPES, *bounds]
    np.testing.assert_allclose(table[TYPES].iloc[4:], predictions[1].values, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".h5ad", ".geojson", ".ome.tif", ".png", ".html"])
def test_a_name_with_slide_in_it_gives_every_slide_a_file(tmp_path: Path, mapped, suffix: str):
    files = write_predictions(tmp_path / f"{{slide}}{suffix}", mapped)
    assert files == [tmp_path / f"S_1{suffix}", tmp_path / f"S_2{suffix}"]
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("suffix", [".geojson", ".ome.tif", ".png"])
def test_a_format_of_one_slide_asks_for_a_name_for_each(tmp_path: Path, mapped, suffix: str):
    path = tmp_path / f"out{suffix}"
    with pytest.raises(HistoboostError, match=f"{suffix} holds one slide") as caught:
        check_prediction_output(path, ["S_1", "S_2"])
    assert f"{{slide}}_out{suffix}" in str(caught.value)
    with pytest.raises(HistoboostError, match="holds one slide"):
        write_predictions(path, mapped)
    check_prediction_output(path, ["S_1"])
    (tmp_path / f"S_2{suffix}").mkdir()
    with pytest.raises(HistoboostError, match="S_2.* is a directory"):
        check_prediction_output(tmp_path / f"{{slide}}{suffix}", ["S_1", "S_2"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "out.xlsx",
            "unknown suffix '.xlsx'; give .csv, .parquet, .h5ad, .zarr, .geojson, .ome.tif, .png, "
            ".html",
        ),
        ("absent/out.h5ad", "no such directory"),
        ("store.zarr", "is a directory"),
        ("n" * 252 + ".csv", "its name is longer than 255 bytes"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, store, name: str, message: str):
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
    tmp_path: Path, predictions, suffix: str, name: str
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
def test_a_cell_type_that_some_output_could_not_hold_is_refused_in_one_line(name: str):
    with pytest.raises(HistoboostError, match=r"^model: .*rename") as caught:
        check_cell_type_names(("ok", "B_T", name), "model")
    assert str(caught.value).isprintable()
