"""Cross-validation holds out whole slides and lets nothing through."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.crossval import cross_validate
from histoboost.regress.heads.base import head_names

FEW = {"n_estimators": 30, "num_leaves": 4}


def options(model: str) -> dict[str, int]:
    return FEW if model in ("lightgbm", "coords", "blend", "stack") else {}


@pytest.mark.parametrize("model", ["lightgbm", "ridge", "kernel", "blend", "stack"])
def test_every_head_beats_the_constant_profiles(store: EmbeddingStore, model: str) -> None:
    scores = cross_validate(store, "net@*", model, options=options(model), jobs=1)
    assert scores.mean("spot_spearman") > scores.baseline("mean-rank") + 0.05
    assert scores.mean("type_spearman") > 0.3


@pytest.mark.parametrize("model", ["mean", "mean-rank"])
def test_a_constant_profile_scores_like_the_baseline_of_its_name(
    store: EmbeddingStore, model: str
) -> None:
    scores = cross_validate(store, "net@32", model)
    assert scores.mean("spot_spearman") == pytest.approx(scores.baseline(model))
    assert scores.mean("type_spearman") == 0


def test_json_is_as_the_design_says(store: EmbeddingStore) -> None:
    result = json.loads(json.dumps(cross_validate(store, "net@32", "ridge").to_json()))
    assert result["features"] == "net@32"
    assert (result["model"], result["target"]) == ("ridge", "rank")
    assert [fold["held_out"] for fold in result["folds"]] == [["A"], ["B"], ["C"]]
    for fold in result["folds"]:
        assert fold["n_spots"] == 72
        assert {"spot_spearman", "type_spearman", "fit_seconds"} <= set(fold)
    each = [fold["spot_spearman"] for fold in result["folds"]]
    assert result["mean"]["spot_spearman"] == pytest.approx(np.mean(each))
    assert set(result["baselines"]) == {"mean", "mean-rank"}
    assert set(result["seconds"]) == {"load", "fit", "predict"}


def test_groups_are_held_out_together(store: EmbeddingStore) -> None:
    scores = cross_validate(store, "net@32", "ridge", group_by="group")
    assert [fold.held_out for fold in scores.folds] == [("A", "B"), ("C",)]


def test_a_fold_is_named_by_its_group_where_groups_are_held_out(store: EmbeddingStore) -> None:
    by_group = cross_validate(store, "net@32", "ridge", group_by="group", held_out=["A"])
    assert [fold.name for fold in by_group.folds] == ["p1 (A, B)"]
    assert by_group.to_json()["folds"][0]["name"] == "p1 (A, B)"
    with pytest.warns(HistoboostWarning, match="one group"):
        by_slide = cross_validate(store, "net@32", "ridge", held_out=["A"])
    assert [fold.name for fold in by_slide.folds] == ["A"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_seed_and_not_the_jobs_decide_the_numbers(store: EmbeddingStore, jobs: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("joblib.cpu_count", lambda: 2)
        first, again = (
            cross_validate(store, "net@*", options=FEW, held_out=["B"], jobs=each)
            for each in (1, jobs)
        )
    np.testing.assert_array_equal(first.folds[0].predictions["B"], again.folds[0].predictions["B"])


@pytest.mark.parametrize("model", head_names())
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_shuffled_labels_score_like_the_constant_baseline(
    make_store: Callable[..., EmbeddingStore], model: str
) -> None:
    store = make_store(shuffled=True, slides=4)
    other = {"standardize": "none", "balance": "none", "smooth": 0.5}
    for features, more in (("net@*+net@*:ring1", {}), ("pca:4(net@*)+coords", other)):
        scores = cross_validate(store, features, model, options=options(model), jobs=1, **more)
        assert scores.mean("spot_spearman") < scores.baseline("mean-rank") + 0.03
        assert abs(scores.mean("type_spearman")) < 0.12


def test_predictions_that_hardly_vary_raise_a_warning(store: EmbeddingStore) -> None:
    few = {"n_estimators": 1, "learning_rate": 1e-6}
    with pytest.warns(HistoboostWarning, match="hardly vary"):
        cross_validate(store, "net@32", "lightgbm", jobs=1, options=few)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ""}, "a term is empty"),
        ({"features": "nett@32"}, "no embedding matches 'nett@32'; there are net@32, net@64"),
        ({"model": "forest"}, "unknown; there are"),
        ({"target": "sqrt"}, "unknown; there are rank, log, raw"),
        ({"slides": ["A"]}, "needs two labelled slides"),
        ({"slides": ["A", "D"]}, "D: has no abundances"),
        ({"slides": ["A", "Z"]}, "no slide 'Z'"),
        ({"held_out": ["D"]}, "'D': is not one of A, B, C"),
        ({"seeds": 0}, "1 or more"),
        ({"smooth": 2.0}, "between 0 and 1"),
        ({"options": {"depth": 3}}, "unknown; LightGBM's are"),
        ({"model": "ridge", "options": {"max_bin": 3}}, "takes none"),
        ({"options": {"n_estimators": -3}}, "must be a positive int"),
    ],
)
def test_bad_input_is_one_clear_line(
    store: EmbeddingStore, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(HistoboostError, match=message.replace("(", r"\(")):
        cross_validate(store, **{"features": "net@32", **arguments})


def test_slides_of_one_patient_that_are_held_out_singly_are_named(store: EmbeddingStore) -> None:
    options = {"features": "net@32", "model": "mean"}
    with pytest.warns(HistoboostWarning, match="slides A, B are of one group, p1"):
        cross_validate(store, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HistoboostWarning)
        cross_validate(store, **options, group_by="group")
