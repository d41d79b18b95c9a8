"""What a model knows of its training slides' scale, and what is heard of every slide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostWarning
from histoboost.outputs.predictions import write_predictions
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.predictions import Prediction
from histoboost.regress.scale import Scale
from histoboost.spots import SpotTable

from .conftest import hexagonal


def table(pitch: float, um_per_px: float | None) -> SpotTable:
    xy = hexagonal(4, 4, pitch)
    return SpotTable("S", xy, tuple(map(str, range(16))), um_per_px=um_per_px)


def test_scale_is_the_median_of_the_slides_and_unknown_where_none_knows() -> None:
    tables = [table(20, 0.5), table(22, 0.5), table(100, None)]
    scale = Scale.of(tables)
    assert (scale.um_per_px, scale.pitch_px, scale.pitch_um) == pytest.approx((0.5, 22, 10.5))
    assert Scale.of(tables[2:]) == Scale(pitch_px=pytest.approx(100))


def test_a_model_knows_the_scale_of_its_training_slides_when_it_is_loaded_again(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    CompositionRegressor("net@32", "ridge").fit(store).save(tmp_path / "m")
    model = CompositionRegressor.load(tmp_path / "m")
    assert (model.um_per_px_, model.pitch_um_) == (None, None)
    assert model.pitch_px_ == pytest.approx(25)


def prediction(novelty: list[float] | None) -> Prediction:
    spots = table(20, None)
    values = np.random.default_rng(0).random((16, 2))
    novelty_ = None if novelty is None else np.array(novelty)
    return Prediction(spots, ("a", "b"), values, "share", novelty=novelty_)


def test_novel_share_counts_the_spots_above_1_and_is_unknown_without_novelty() -> None:
    assert prediction([0.5] * 12 + [1.5] * 4).novel_share == 0.25
    assert prediction(None).novel_share is None


@pytest.mark.parametrize("suffix", [".parquet", ".h5ad", ".zarr", ".csv"])
def test_novelty_stands_beside_predictions_in_all_but_the_challenges_table(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / f"out{suffix}"
    novelty = list(np.linspace(0, 2, 16))
    write_predictions(path, [prediction(novelty)])
    if suffix == ".csv":
        assert list(pd.read_csv(path)) == ["ID", "a", "b"]
        return
    import anndata

    readers = {".h5ad": anndata.read_h5ad, ".zarr": anndata.read_zarr}
    table = pd.read_parquet(path) if suffix == ".parquet" else readers[suffix](path).obs
    np.testing.assert_allclose(table["novelty"], novelty)


def test_predict_writes_what_is_to_be_known_of_each_slide_as_json(
    store_path: Path, tmp_path: Path
) -> None:
    model, output, path = (str(tmp_path / name) for name in ("m", "out.csv", "out.json"))
    CompositionRegressor("net@32", "ridge").fit(store_path).save(model)
    result = CliRunner().invoke(
        main, ["predict", str(store_path), model, "-o", output, "--json", path]
    )
    assert result.exit_code == 0, result.output
    [slide] = json.loads(Path(path).read_text())["slides"]
    assert list(slide) == ["slide", "spots", "unlike", "novelty", "warnings", "outputs"]
    assert (slide["slide"], slide["spots"], slide["outputs"]) == ("D", 72, [output])


def test_what_is_warned_of_on_a_slide_is_kept_with_its_prediction(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    model = CompositionRegressor("net@32", "ridge").fit(store)
    fitted = model.predictor_.fitted
    model.predictor_ = replace(model.predictor_, fitted=Constant(fitted.predict))
    with pytest.warns(HistoboostWarning, match="hardly vary"):
        [said] = model.predict(store)
    assert any("hardly vary" in line for line in said.warnings)


class Constant:
    """A model that says the same of every spot."""

    def __init__(self, predict):
        self.inner = predict

    def predict(self, values):
        predicted = self.inner(values)
        return np.broadcast_to(predicted.mean(axis=0), predicted.shape)
