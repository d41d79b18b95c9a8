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
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.outputs.predictions import write_predictions
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.predictions import Prediction
from histoboost.regress.scale import Scale, check_scale, compared_in, measure_scale
from histoboost.spots import SpotTable

from .conftest import add_embedding, hexagonal


def table(pitch: float, um_per_px: float | None) -> SpotTable:
    xy = hexagonal(4, 4, pitch)
    return SpotTable("S", xy, tuple(map(str, range(16))), um_per_px=um_per_px)


def test_scale_is_the_median_of_the_slides_and_unknown_where_none_knows() -> None:
    tables = [table(20, 0.5), table(22, 0.5), table(100, None)]
    scale = measure_scale(tables)
    assert (scale.um_per_px, scale.pitch_px, scale.pitch_um) == pytest.approx((0.5, 22, 10.5))
    assert measure_scale(tables[2:]) == Scale(pitch_px=pytest.approx(100))


def test_a_model_knows_the_scale_of_its_training_slides_when_it_is_loaded_again(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    CompositionRegressor("net@32", "ridge").fit(store).save(tmp_path / "m")
    model = CompositionRegressor.load(tmp_path / "m")
    assert (model.um_per_px_, model.pitch_um_) == (None, None)
    assert model.pitch_px_ == pytest.approx(25)


def trained_at(pitch: float, um_per_px: float | None) -> Scale:
    return measure_scale([table(pitch, um_per_px)])


RINGS, AREAS, PLAIN = "net@32:ring1", "pca:2(net@32:area10)", "net@32"
IN_PX, IN_UM = {"net@32": {"patch_px": 32}}, {"net@32": {"patch_um": 16.0}}


@pytest.mark.parametrize("um_per_px", [None, 0.5])
def test_rings_on_another_pitch_are_refused_with_the_remedy(um_per_px: float | None) -> None:
    trained, unit = trained_at(20, um_per_px), "px" if um_per_px is None else "um"
    pattern = rf"slide S: spots are \d+ {unit} apart.*histoboost map"
    for pitch in (10, 30):
        with pytest.raises(HistoboostError, match=pattern):
            check_scale(trained, table(pitch, um_per_px), RINGS, IN_PX)


def test_areas_on_another_pitch_are_warned_of_and_plain_embeddings_are_not(
    recwarn: pytest.WarningsRecorder,
) -> None:
    check_scale(trained_at(20, None), table(10, None), PLAIN, IN_PX)
    assert not recwarn.list
    with pytest.warns(HistoboostWarning, match="slide S: .*smallest areas"):
        check_scale(trained_at(20, None), table(10, None), AREAS, IN_PX)


@pytest.mark.parametrize("features", [RINGS, AREAS, PLAIN])
def test_pitches_that_hardly_differ_or_that_no_side_knows_are_not_spoken_of(
    features: str, recwarn: pytest.WarningsRecorder
) -> None:
    for trained in (trained_at(20, 0.5), trained_at(20, None), Scale()):
        for um_per_px in (0.5, None):
            check_scale(trained, table(22, um_per_px), features, IN_PX)
    assert not recwarn.list


def test_the_same_pitch_in_micrometres_is_no_other_pitch_at_another_resolution(
    recwarn: pytest.WarningsRecorder,
) -> None:
    check_scale(trained_at(100, 1.0), table(400, 0.25), RINGS, IN_UM)
    assert not recwarn.list


def test_another_resolution_is_warned_of_where_patches_change_or_detail_is_missing() -> None:
    for um_per_px, pitch in ((0.25, 400), (2.0, 50)):
        with pytest.warns(HistoboostWarning, match="another width of tissue"):
            check_scale(trained_at(100, 1.0), table(pitch, um_per_px), RINGS, IN_PX)
    with pytest.warns(HistoboostWarning, match="it is coarser"):
        check_scale(trained_at(100, 1.0), table(50, 2.0), RINGS, IN_UM)


def test_patches_cut_at_the_resolution_of_training_are_not_warned_of(
    recwarn: pytest.WarningsRecorder,
) -> None:
    resampled = {"net@32": {"patch_px": 32, "slide_scale": {"um_per_px": 1.0}}}
    check_scale(trained_at(100, 1.0), table(400, 0.25), RINGS, resampled)
    assert not recwarn.list


def test_it_is_said_where_pixels_were_compared_because_micrometres_are_unknown() -> None:
    known, unknown = table(20, 0.5), table(20, None)
    assert compared_in(measure_scale([known]), [known]) is None
    assert "in pixels: um per px is unknown for S." in compared_in(
        measure_scale([known]), [unknown]
    )
    assert "the training slides" in compared_in(measure_scale([unknown]), [known])
    assert "does not store" in compared_in(Scale(), [known])


def test_predict_refuses_rings_on_another_pitch_and_show_tells_the_pitch(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    other = EmbeddingStore(tmp_path / "other.zarr")
    spots = store.spots("D")
    other.write_spots(replace(spots, xy=spots.xy * 2))
    add_embedding(other, "D", "net@32", store.read("D", "net@32"), patch_px=32)
    model = str(tmp_path / "m")
    CompositionRegressor("net@32+net@32:ring1", "ridge").fit(store).save(model)
    arguments = ["predict", str(tmp_path / "other.zarr"), model, "-o", str(tmp_path / "o.csv")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert "spots are 50 px apart, those of the training slides 25 px" in result.output
    shown = CliRunner().invoke(main, ["show", model]).output.splitlines()
    facts = {line[:20].strip(): line[20:] for line in shown}
    assert facts["um per px"] == "unknown"
    assert facts["spot pitch"] == "25 px, unknown"
    assert facts["novelty"] == "judged"


def prediction(novelty: list[float] | None) -> Prediction:
    spots = table(20, None)
    values = np.random.default_rng(0).random((16, 2))
    novelty_ = None if novelty is None else np.array(novelty)
    return Prediction(spots, ("a", "b"), values, "share", novelty=novelty_)


def test_novel_share_counts_the_spots_above_1_and_is_unknown_without_novelty() -> None:
    assert prediction([0.5] * 12 + [1.5] * 4).novel_share == 0.25
    assert prediction(None).novel_share is None


@pytest.mark.parametrize("suffix", [".parquet", ".h5ad", ".csv"])
def test_novelty_stands_beside_predictions_in_all_but_the_challenges_table(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / f"out{suffix}"
    novelty = list(np.linspace(0, 2, 16))
    write_predictions(path, [prediction(novelty)], submission=True)
    if suffix == ".csv":
        assert list(pd.read_csv(path)) == ["ID", "a", "b"]
        return
    import anndata

    table = pd.read_parquet(path) if suffix == ".parquet" else anndata.read_h5ad(path).obs
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
    told = ["unlike", "novelty", "novel_share", "turn", "warnings"]
    assert list(slide) == ["slide", "spots", *told, "outputs"]
    assert slide["novelty"] == slide["novel_share"]
    assert (slide["slide"], slide["spots"], slide["outputs"]) == ("D", 72, [output])


def test_what_is_warned_of_on_a_slide_is_kept_with_its_prediction(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    model = CompositionRegressor("net@32", "ridge").fit(store)
    fitted = model.predictor_.fitted
    model.predictor_ = replace(model.predictor_, fitted=Constant(fitted))
    with pytest.warns(HistoboostWarning, match="hardly vary"):
        [said] = model.predict(store)
    assert any("hardly vary" in line for line in said.warnings)


class Constant:
    """A model that says the same of every spot."""

    def __init__(self, fitted):
        self.fitted = fitted

    def __getattr__(self, name):
        return getattr(self.fitted, name)

    def predict(self, values):
        predicted = self.fitted.predict(values)
        return np.broadcast_to(predicted.mean(axis=0), predicted.shape)
