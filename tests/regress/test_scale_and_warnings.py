"""Slides on another scale than the training slides, and summaries of predicted slides."""

from __future__ import annotations

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.heads.constant import Constant
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.predictions import Prediction
from histoboost.regress.scale import Scale, check_scale, compared_in, measure_scale
from histoboost.spots import SpotTable

from .conftest import add_embedding, hexagonal


def table(pitch: float, um_per_px: float | None) -> SpotTable:
    xy = hexagonal(4, 4, pitch)
    return SpotTable("S", xy, tuple(map(str, range(16))), um_per_px=um_per_px)


def test_scale_is_the_median_of_the_slides_and_unknown_where_none_knows():
    tables = [table(20, 0.5), table(22, 0.5), table(100, None)]
    scale = measure_scale(tables)
    assert (scale.um_per_px, scale.pitch_px, scale.pitch_um) == pytest.approx((0.5, 22, 10.5))
    assert measure_scale(tables[2:]) == Scale(pitch_px=pytest.approx(100))


def test_a_loaded_model_knows_the_scale_of_its_training_slides(store, tmp_path):
    CompositionRegressor("net@32", "ridge").fit(store).save(tmp_path / "m")
    model = CompositionRegressor.load(tmp_path / "m")
    assert (model.um_per_px_, model.pitch_um_) == (None, None)
    assert model.pitch_px_ == pytest.approx(25)


def trained_at(pitch: float, um_per_px: float | None) -> Scale:
    return measure_scale([table(pitch, um_per_px)])


RINGS, AREAS, PLAIN = "net@32:ring1", "pca:2(net@32:area10)", "net@32"
IN_PX, IN_UM = {"net@32": {"patch_px": 32}}, {"net@32": {"patch_um": 16.0}}


@pytest.mark.parametrize("um_per_px", [None, 0.5])
def test_rings_on_another_pitch_are_refused_with_the_remedy(um_per_px):
    trained, unit = trained_at(20, um_per_px), "px" if um_per_px is None else "um"
    pattern = rf"slide S: spots are \d+ {unit} apart.*histoboost map"
    for pitch in (10, 30):
        with pytest.raises(HistoboostError, match=pattern):
            check_scale(trained, table(pitch, um_per_px), RINGS, IN_PX)


@pytest.mark.parametrize(
    ("trained", "pitch", "um_per_px", "features", "recipes", "message"),
    [
        ((20, None), 10, None, AREAS, IN_PX, "slide S: .*smallest areas"),
        ((100, 1.0), 400, 0.25, RINGS, IN_PX, "another width of tissue"),
        ((100, 1.0), 50, 2.0, RINGS, IN_PX, "another width of tissue"),
        ((100, 1.0), 50, 2.0, RINGS, IN_UM, "it is coarser"),
    ],
)
def test_areas_on_another_pitch_changed_patches_and_missing_detail_are_warned_about(
    trained, pitch, um_per_px, features, recipes, message
):
    with pytest.warns(HistoboostWarning, match=message):
        check_scale(trained_at(*trained), table(pitch, um_per_px), features, recipes)


def test_scales_that_are_similar_unknown_or_irrelevant_are_not_warned_about():
    resampled = {"net@32": {"patch_px": 32, "slide_scale": {"um_per_px": 1.0}}}
    with warnings.catch_warnings(action="error"):
        check_scale(trained_at(20, None), table(10, None), PLAIN, IN_PX)
        check_scale(trained_at(100, 1.0), table(400, 0.25), RINGS, IN_UM)
        check_scale(trained_at(100, 1.0), table(400, 0.25), RINGS, resampled)
        for trained in (trained_at(20, 0.5), trained_at(20, None), Scale()):
            for um_per_px, features in itertools.product((0.5, None), (RINGS, AREAS, PLAIN)):
                check_scale(trained, table(22, um_per_px), features, IN_PX)


def test_comparisons_in_pixels_are_noted_if_micrometres_are_unknown():
    known, unknown = table(20, 0.5), table(20, None)
    scale = trained_at(20, 0.5)
    assert compared_in(scale, [known]) is None
    assert "in pixels, because um per px is unknown for S." in compared_in(scale, [unknown])
    assert "for the training slides and S." in compared_in(trained_at(20, None), [unknown])
    assert "for S, S, S and 2 more." in compared_in(scale, [unknown] * 5)
    assert "the training slides" in compared_in(trained_at(20, None), [known])
    assert "does not store" in compared_in(Scale(), [known])


def test_predict_refuses_rings_on_another_pitch_and_show_prints_the_pitch(store, tmp_path):
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
    assert facts["novelty"] == "estimated"


def prediction(novelty: list[float] | None) -> Prediction:
    values, known = (
        np.random.default_rng(0).random((16, 2)),
        None if novelty is None else np.array(novelty),
    )
    return Prediction(table(20, None), ("a", "b"), values, "share", novelty=known)


def test_novel_share_counts_the_spots_above_1_and_is_unknown_without_novelty():
    assert prediction([0.5] * 12 + [1.5] * 4).novel_share == 0.25
    assert prediction(None).novel_share is None


def test_predict_writes_a_summary_of_each_slide_as_json(store_path, tmp_path):
    model, output, path = (str(tmp_path / name) for name in ("m", "out.csv", "out.json"))
    CompositionRegressor("net@32", "ridge").fit(store_path).save(model)
    arguments = ["predict", str(store_path), model, "-o", output, "--json", path]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    [slide] = json.loads(Path(path).read_text())["slides"]
    told = ["unlike", "novelty", "novel_share", "turn", "warnings"]
    assert list(slide) == ["slide", "spots", *told, "outputs"]
    assert slide["novelty"] == slide["novel_share"]
    assert (slide["slide"], slide["spots"], slide["outputs"]) == ("D", 72, [output])


def test_warnings_about_a_slide_are_kept_with_its_prediction(store):
    model = CompositionRegressor("net@32", "ridge").fit(store)
    constant = Constant(np.linspace(0, 1, 19))
    model.predictor_ = replace(model.predictor_, fitted=constant)
    with pytest.warns(HistoboostWarning, match="hardly vary"):
        [predicted] = model.predict(store)
    assert any("hardly vary" in line for line in predicted.warnings)
