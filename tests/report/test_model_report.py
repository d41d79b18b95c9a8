"""Data of the report page, compared with the functions that compute them."""

from __future__ import annotations

import base64
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.baselines import SCORES
from histoboost.regress.crossval import cross_validate
from histoboost.regress.joint import to_shares
from histoboost.regress.metrics import spearman
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.novelty import fit_novelty
from histoboost.report import model_report
from histoboost.report.model_report import report


@pytest.fixture(scope="module")
def data(tmp_path_factory, store_path, model_path, page_data) -> dict:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report(store_path, model_path, path, jobs=1) == path
    return page_data(path)


def matrix(text: str, n: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, n).T


def slide(data: dict, name: str) -> dict:
    return next(slide for slide in data["slides"] if slide["name"] == name)


def test_scores_are_those_of_cross_validation(data, store_path, model_path):
    setup = CompositionRegressor.load(model_path).setup_
    expected = cross_validate(
        EmbeddingStore(store_path, mode="r"),
        setup.features,
        "lightgbm",
        slides=["S_1", "S_2"],
        options=setup.options,
        jobs=1,
    )
    for ours, theirs in zip(data["scores"]["folds"], expected.folds, strict=True):
        assert ours["held_out"] == list(theirs.held_out)
        for score in SCORES:
            assert ours[score] == pytest.approx(getattr(theirs, score))
        for name in ("mean", "mean-rank", "coords"):
            assert ours["baselines"][name] == pytest.approx(theirs.baselines[name])
    for score in SCORES:
        assert data["scores"]["mean"][score] == pytest.approx(expected.mean(score))
        for name, scores in data["scores"]["baselines"].items():
            assert scores[score] == pytest.approx(expected.baseline(name, score))


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_novelty_of_other_slides_is_that_of_predict(data, store_path, model_path):
    for said in CompositionRegressor.load(model_path).predict(store_path, ["S_3", "S_4"]):
        entry = slide(data, said.slide)
        found = matrix(entry["novelty"], entry["n"])[:, 0]
        np.testing.assert_allclose(found, said.novelty, rtol=1e-6)
        assert entry["unlike"] == said.unlike


def test_novelty_of_a_training_slide_is_relative_to_the_others(
    tmp_path, store_path, model_path, page_data, data
):
    assert slide(data, "S_1")["novelty"] is None  # only one training slide is left
    setup = CompositionRegressor.load(model_path).get_params()
    model = CompositionRegressor(**{**setup, "features": "*"}).fit(store_path)
    model.save(tmp_path / "m")
    whole = page_data(report(store_path, tmp_path / "m", tmp_path / "r.html", jobs=1))
    store = EmbeddingStore(store_path, mode="r")
    others = [store.spots(name) for name in ("S_2", "S_3")]
    judge = fit_novelty(store, others, tuple(model.recipes_), 0)
    entry = slide(whole, "S_1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, unlike = judge.judge(store, store.spots("S_1"))
    np.testing.assert_allclose(matrix(entry["novelty"], entry["n"])[:, 0], expected, rtol=1e-6)
    assert entry["unlike"] == unlike


def test_a_training_slide_is_predicted_by_a_model_trained_without_it(data):
    for name in ("S_1", "S_2"):
        entry = slide(data, name)
        assert entry["held_out"] == [name]
        truth, predicted = (matrix(entry[key], entry["n"]) for key in ("truth", "predicted"))
        assert spearman(predicted, truth, axis=1) == pytest.approx(
            matrix(entry["score"], entry["n"])[:, 0], abs=1e-6
        )


def test_other_slides_are_predicted_by_the_model_itself(data, store_path, model_path):
    model = CompositionRegressor.load(model_path)
    store = EmbeddingStore(store_path, mode="r")
    for name in ("S_3", "S_4"):
        entry = slide(data, name)
        assert entry["held_out"] is None
        assert (entry["truth"] is None) == (name == "S_4")
        expected = model.predict(store, [name], units="none")[0].values
        np.testing.assert_allclose(matrix(entry["predicted"], entry["n"]), expected, rtol=1e-6)


def test_scores_per_type_are_means_over_held_out_slides(data):
    assert data["scored_slides"] == ["S_1", "S_2"]
    by_slide = []
    for name in data["scored_slides"]:
        entry = slide(data, name)
        truth, predicted = (matrix(entry[key], entry["n"]) for key in ("truth", "predicted"))
        by_slide.append(spearman(predicted, truth, axis=0))
    means = [entry["mean"] for entry in data["type_scores"]]
    assert means == pytest.approx(np.mean(by_slide, axis=0), abs=1e-4)


def test_importances_are_summed_by_feature_size_and_neighbourhood(data):
    groupings = data["importance"]["groupings"]
    assert {name: [group["name"] for group in groups] for name, groups in groupings.items()} == {
        "feature": [
            "stain-texture@16",
            "stain-texture@32",
            "stain-texture@16:ring1",
            "stain-texture@32:ring1",
            "stain-texture@16:ring2",
            "stain-texture@32:ring2",
            "coords",
        ],
        "embedding": ["stain-texture", "coords"],
        "patch size": ["16 px", "32 px", "coords"],
        "neighbourhood": ["the spot itself", "ring 1", "ring 2"],
    }
    for groups in groupings.values():
        assert sum(group["gain"] for group in groups) == pytest.approx(1)


def test_the_curve_over_rounds_ends_at_the_score_of_the_whole_model(data):
    curve = data["curves"]["rounds"]
    assert curve["x"][-1] == 40
    for fold, row in zip(data["scores"]["folds"], curve["folds"], strict=True):
        assert row["y"][-1] == pytest.approx(fold["spot_spearman"], abs=1e-3)
    assert data["curves"]["sizes"] is None  # each fold has one training slide


def test_provenance_names_model_features_slides_and_recipes(data, model_path):
    known = dict(data["provenance"])
    assert known["Trained on"] == "S_1, S_2"
    assert known["Model digest"].startswith("sha256:")
    assert "n_estimators 40" in known["Settings"]
    assert [recipe["name"] for recipe in data["recipes"]] == [
        "stain-texture@16",
        "stain-texture@32",
    ]
    fields = dict(data["recipes"][0]["fields"])
    assert fields["patch_px"] == "16"
    assert re.fullmatch("[0-9a-f]{64}", fields["digest on S_1"])


@pytest.mark.parametrize(
    ("model", "output", "complaint"),
    [
        ("nowhere", "r.html", "nowhere"),
        ("model", "no/r.html", "no such folder"),
        ("model", "r.txt", "unknown suffix '.txt'; give .html, .htm"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    tmp_path, store_path, model_path, model, output, complaint
):
    folder = model_path if model == "model" else tmp_path / model
    args = ["report", str(store_path), str(folder), "-o", str(tmp_path / output)]
    out = CliRunner().invoke(main, args)
    assert out.exit_code == 2
    assert len(out.stderr.strip().splitlines()) == 1
    assert complaint in out.stderr


@pytest.fixture(scope="module")
def one_patient(tmp_path_factory, store_path) -> EmbeddingStore:
    """A copy of the store, with S_1 and S_2 from one patient."""
    path = tmp_path_factory.mktemp("groups") / "store.zarr"
    shutil.copytree(store_path, path)
    store = EmbeddingStore(path)
    groups = {"S_1": "patient 1", "S_2": "patient 1", "S_3": "patient 2"}
    store.relabel([replace(store.spots(name), group=group) for name, group in groups.items()])
    return store


def written(store: EmbeddingStore, folder: Path, **setup: str) -> Path:
    """Report on a small model of this store."""
    model = CompositionRegressor("stain-texture@16", "ridge", **setup)
    model.fit(store, ["S_1", "S_2", "S_3"]).save(folder / "model")
    report(store.location, folder / "model", folder / "report.html", jobs=1)
    return folder / "report.html"


def test_slides_of_one_group_in_different_folds_are_named_on_the_page_and_to_the_caller(
    tmp_path, one_patient, page_data
):
    with pytest.warns(HistoboostWarning, match="slides S_1, S_2 are of one group, patient 1"):
        [line] = page_data(written(one_patient, tmp_path, group_by="slide"))["warnings"]
    assert line.endswith("train with --group-by auto to hold them out together")


def test_groups_held_out_together_raise_no_warning(tmp_path, one_patient, page_data):
    assert page_data(written(one_patient, tmp_path, group_by="group"))["warnings"] == []


def test_a_backbone_that_was_tuned_on_a_held_out_slide_is_named_on_the_page(
    tmp_path, store_path, model_path, monkeypatch, page_data
):
    monkeypatch.setattr("histoboost.regress.leakage._tuned_on", lambda *slide: "S_2" in slide)
    with pytest.warns(HistoboostWarning, match="tuned on S_2"):
        report(store_path, model_path, tmp_path / "report.html", jobs=1)
    assert "tuned on S_2" in page_data(tmp_path / "report.html")["warnings"][0]


def test_a_model_of_one_slide_cannot_be_reported_on(tmp_path, store_path):
    model = CompositionRegressor("stain-texture@16", "ridge")
    model.fit(EmbeddingStore(store_path, mode="r"), ["S_1"]).save(tmp_path / "model")
    with pytest.raises(HistoboostError, match="trained on one slide, S_1"):
        report(store_path, tmp_path / "model", tmp_path / "report.html")


def test_of_many_cell_types_only_the_most_abundant_are_shown_but_all_are_scored(
    tmp_path, store_path, model_path, page_data, data, monkeypatch
):
    monkeypatch.setattr(model_report, "MAPPED", 3)
    some = page_data(report(store_path, model_path, tmp_path / "r.html", jobs=1))
    store = EmbeddingStore(store_path, mode="r")
    share = np.mean(
        [to_shares(store.spots(name).abundance).mean(axis=0) for name in ("S_1", "S_2")], axis=0
    )
    shown = np.sort(np.argsort(-share)[:3])
    assert some["types"] == [data["types"][i] for i in shown]
    assert some["type_scores"] == [data["type_scores"][i] for i in shown]
    assert some["scores"]["mean"] == data["scores"]["mean"]
    assert any(
        "maps, ranks and scores by type are shown only for the 3" in line
        for line in some["warnings"]
    )
    for one, whole in zip(some["slides"], data["slides"], strict=True):
        assert one["score"] == whole["score"]
        for part in ("truth", "predicted", "amount"):
            if one[part] is not None:
                columns = matrix(whole[part], whole["n"])[:, shown]
                np.testing.assert_array_equal(matrix(one[part], one["n"]), columns)
