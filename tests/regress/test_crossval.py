"""Cross-validation holds out whole slides without leakage."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning, warnings_kept
from histoboost.regress.baselines import SCORES
from histoboost.regress.crossval import cross_validate
from histoboost.regress.folds import make_folds
from histoboost.regress.heads import MODELS
from histoboost.regress.leakage import warn_of_tuning
from histoboost.spots import SpotTable

from .conftest import add_embedding

FEW = {"n_estimators": 30, "num_leaves": 4}


def options(model: str) -> dict[str, int]:
    return FEW if model in ("lightgbm", "stack") else {}


@pytest.mark.parametrize("model", ["lightgbm", "ridge", "kernel", "stack"])
def test_every_model_beats_the_constant_profiles(store, model):
    scores = cross_validate(store, "net@*", model, options=options(model), jobs=1, group_by="slide")
    assert scores.mean("spot_spearman") > scores.baseline("mean-rank") + 0.05
    assert scores.mean("type_spearman") > 0.3


@pytest.mark.parametrize("model", ["mean", "mean-rank"])
def test_a_constant_profile_scores_like_the_baseline_of_its_name(store, model):
    scores = cross_validate(store, "net@32", model)
    assert scores.mean("spot_spearman") == pytest.approx(scores.baseline(model))
    assert scores.mean("type_spearman") == 0


def test_json_is_as_the_design_says(store):
    scores = cross_validate(store, "net@32", "ridge", group_by="slide")
    result = json.loads(json.dumps(scores.to_json()))
    assert result["features"] == "net@32"
    assert (result["model"], result["target"]) == ("ridge", "joint")
    assert [fold["held_out"] for fold in result["folds"]] == [["A"], ["B"], ["C"]]
    for fold in result["folds"]:
        assert fold["n_spots"] == 72
        assert {*SCORES, "fit_seconds"} <= set(fold)
        for score in ("spearman", "pearson"):
            each = [correlations[score] for correlations in fold["types"].values()]
            assert np.mean(each) == pytest.approx(fold[f"type_{score}"])
    each = [fold["spot_spearman"] for fold in result["folds"]]
    assert result["mean"]["spot_spearman"] == pytest.approx(np.mean(each))
    assert set(result["mean"]) == set(SCORES)
    assert set(result["baselines"]) == {"mean", "mean-rank", "coords"}
    assert all(set(each) == set(SCORES) for each in result["baselines"].values())
    assert set(result["seconds"]) == {"load", "fit", "predict"}


@pytest.mark.parametrize("group_by", [{}, {"group_by": "group"}])
def test_groups_are_held_out_together_wherever_they_are_known(store, group_by):
    scores = cross_validate(store, "net@32", "ridge", **group_by)
    assert [fold.held_out for fold in scores.folds] == [("A", "B"), ("C",)]
    assert [fold["name"] for fold in scores.to_json()["folds"]] == ["p1 (A, B)", "p2 (C)"]


def spots_of(**groups: str | None) -> list[SpotTable]:
    xy = np.array([[0.0, 0.0]])
    return [SpotTable(slide, xy, ("0",), group=group) for slide, group in groups.items()]


def test_a_slide_without_a_group_and_slides_of_a_single_group_are_held_out_alone():
    spots = spots_of(A="p1", B=None, C="p1", p1=None)
    folds = make_folds(spots, "auto")
    assert [fold.held_out for fold in folds] == [(0, 2), (1,), (3,)]
    assert [fold.group for fold in folds] == ["p1", None, None]
    with pytest.raises(HistoboostError, match="slide B: has no group"):
        make_folds(spots, "group")
    folds = make_folds(spots_of(A="p1", B="p1"), "auto")
    assert [(fold.held_out, fold.group) for fold in folds] == [((0,), None), ((1,), None)]


def test_a_path_and_a_single_name_mean_what_a_store_and_a_list_do(store, store_path):
    one = cross_validate(str(store_path), "net@32", "ridge", held_out="C", slides=["A", "C"])
    other = cross_validate(store, "net@32", "ridge", held_out=["C"], slides=("A", "C"))
    assert one.mean("spot_spearman") == other.mean("spot_spearman")


def test_scores_are_a_table_with_one_row_per_fold(store):
    scores = cross_validate(store, "net@32", "ridge", seeds=2)
    frame = scores.to_frame()
    assert list(frame["held_out"]) == ["A, B", "C"] * 2
    assert list(frame["seed"]) == [0, 0, 1, 1]
    assert frame["spot_spearman"].mean() == pytest.approx(scores.mean("spot_spearman"))
    assert {"type_spearman", "mean_spot_spearman", "mean-rank_spot_spearman"} <= set(frame)
    assert "ridge on net@32, 4 folds, spot_spearman 0." in repr(scores)


@pytest.mark.parametrize("jobs", [1, 2])
def test_neither_jobs_nor_threads_change_the_numbers(store, monkeypatch, jobs):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    more, found = {"options": FEW, "held_out": "B", "group_by": "slide"}, []
    for each in (1, jobs):
        with threadpool_limits(each):
            [fold] = cross_validate(store, "net@*", jobs=each, **more).folds
        found.append(fold.predictions["B"])
    np.testing.assert_array_equal(*found)
    assert fold.name == "B"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_shuffled_labels_score_like_the_constant_baseline(make_store, model):
    store = make_store(shuffled=True, slides=4)
    other = {"standardize": "none", "balance": "none", "smooth": 0.5}
    for features, more in (("net@*+net@*:ring1", {}), ("pca:4(net@*)+coords", other)):
        more = {**more, "options": options(model), "group_by": "slide", "jobs": 1}
        scores = cross_validate(store, features, model, **more)
        assert scores.mean("spot_spearman") < scores.baseline("mean-rank") + 0.03
        assert abs(scores.mean("type_spearman")) < 0.12


def test_predictions_that_hardly_vary_raise_a_warning(store):
    few = {"n_estimators": 1, "learning_rate": 1e-6}
    with pytest.warns(HistoboostWarning, match="hardly vary"):
        cross_validate(store, "net@32", "lightgbm", jobs=1, options=few)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ""}, "a term is empty"),
        ({"features": "nett@32"}, "no embedding matches 'nett@32'; there are net@32, net@64"),
        ({"model": "forest"}, "unknown; choose one of"),
        ({"target": "sqrt"}, "unknown; choose one of joint, rank, log, raw, share"),
        ({"slides": ["A"]}, "needs two labelled slides"),
        ({"slides": ["A", "D"]}, "D: has no abundances"),
        ({"slides": ["A", "Z"]}, "no slide 'Z'"),
        ({"held_out": ["D"]}, "'D': is not one of A, B, C"),
        ({"seeds": 0}, "1 or more"),
        ({"smooth": 2.0}, "between 0 and 1"),
        ({"options": {"depth": 3}}, "choose one of n_estimators"),
        ({"model": "ridge", "options": {"max_bin": 3}}, "model ridge does not take it"),
        ({"options": {"early_stopping": 50}}, "model stack does not take it"),
        ({"options": {"num_leaves": 0}}, "num_leaves=0: must be a whole number from 2"),
        ({"options": {"feature_fraction": 0}}, "must be a number from 1e-09 to 1"),
        ({"options": {"early_stopping": 0}, "model": "lightgbm"}, "of 1 or more"),
    ],
)
def test_bad_input_is_one_clear_line(store, arguments, message):
    with pytest.raises(HistoboostError, match=message.replace("(", r"\(")):
        cross_validate(store, **{"features": "net@32", **arguments})


def test_slides_of_one_patient_that_are_held_out_singly_are_named(store):
    options = {"features": "net@32", "model": "mean"}
    with pytest.warns(HistoboostWarning, match="slides A, B are of one group, p1"):
        cross_validate(store, **options, group_by="slide")
    with pytest.warns(HistoboostWarning, match="scores do not apply to other patients"):
        cross_validate(store, **options, slides=["A", "B"])
    with warnings.catch_warnings(action="error", category=HistoboostWarning):
        cross_validate(store, **options)


@pytest.fixture
def tuned(tmp_path):
    store = EmbeddingStore(tmp_path / "store.zarr")
    tuned_on = [{"slide": "other name", "pixels": "pixels of S_1", "spots": "spots of S_2"}]
    for slide in ("S_1", "S_2", "S_3"):
        xy = np.random.default_rng(0).uniform(0, 9, (4, 2))
        store.write_spots(SpotTable(slide, xy, tuple("abcd")))
        for name, extra in (("tuned", {"tuned_on": tuned_on}), ("frozen", {})):
            fields = {"slide_pixels": f"pixels of {slide}", "spots": f"spots of {slide}", **extra}
            add_embedding(store, slide, name, np.zeros((4, 2), np.float32), **fields)
    return store


def test_a_tuned_slide_is_recognised_by_its_pixels_or_spots_and_others_are_not_named(tuned):
    with warnings_kept() as heard:
        warn_of_tuning(tuned, ["tuned", "frozen"], ["S_1", "S_2", "S_3"])
    [line] = heard
    assert "tuned: its backbone was tuned on S_1, S_2, held out" in line
