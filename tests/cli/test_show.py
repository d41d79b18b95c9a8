"""`histoboost show`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.finetune.presets import preset
from histoboost.finetune.target import fit_learned_target
from histoboost.regress.crossval import cross_validate
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.units import UNITS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> EmbeddingStore:
    path = tmp_path_factory.mktemp("show") / "store.zarr"
    featurize(phantom_h5, path, backbone="stain-texture", patch=[16])
    return EmbeddingStore(path, mode="r")


@pytest.fixture
def shown(succeeds, tmp_path: Path):
    """Show a model; returns the text and the JSON document."""

    def shown(model: Path) -> tuple[str, dict]:
        text = succeeds("show", model, "--json", tmp_path / "show.json").output
        return text, json.loads((tmp_path / "show.json").read_text())

    return shown


def test_a_model_is_shown_with_what_it_predicts_and_how_to_use_it(shown, store, tmp_path):
    model = CompositionRegressor("stain-texture@16+coords", "ridge", smooth=0.5)
    model.fit(store, ["S_1", "S_2"], jobs=1).save(tmp_path / "m")
    text, found = shown(tmp_path / "m")
    assert (found["model"], found["target"]) == ("ridge", model.target)
    assert found["features"] == "stain-texture@16+coords"
    assert found["settings"]["smooth"] == 0.5
    assert found["cell_types"] == list(store.spots("S_1").cell_types)
    assert found["training_slides"] == ["S_1", "S_2"]
    assert found["recipes"]["stain-texture@16"]["patch_px"] == 16
    assert found["units"] == list(UNITS)
    assert (found["intervals"], found["scores"]) == (False, None)
    assert sum(found["importances"].values()) == pytest.approx(1)
    assert found["use"] == [
        "histoboost featurize DATA STORE --backbone stain-texture --patch 16",
        f"histoboost predict STORE {tmp_path / 'm'} -o predicted.csv",
    ]
    for part in ("2 training slides", "S_1, S_2", "smooth 0.5", "not stored", *found["use"]):
        assert part in text


def test_train_tells_where_all_of_many_terms_are_shown(succeeds, store, tmp_path):
    features = "+".join(f"pca:{width}(stain-texture@16)" for width in range(1, 14))
    options = ("--model", "ridge", "--features", features)
    text = succeeds("train", store.location, tmp_path / "m", *options).output
    assert f"(13 terms; histoboost show {tmp_path / 'm'} --json - has all)" in text


def test_scores_are_those_of_cross_validation_if_the_model_has_them(shown, store, tmp_path):
    model = CompositionRegressor("stain-texture@16", "ridge")
    model.fit(store, jobs=1, intervals=True).save(tmp_path / "m")
    _, found = shown(tmp_path / "m")
    expected = cross_validate(store, "stain-texture@16", "ridge", jobs=1)
    assert found["intervals"]
    assert found["scores"] == {
        name: pytest.approx(expected.mean(name), abs=1e-5) for name in found["scores"]
    }


@pytest.mark.parametrize("backbone", ["resnet18", "mymodule:network"])
def test_a_fine_tuned_model_is_shown_without_running_or_fetching_what_it_names(
    shown, tmp_path, backbone, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mymodule.py").write_text("raise SystemExit('imported')")
    identity = {
        "format": 1,
        "settings": {**preset("cnn-baseline").to_json(), "backbones": [backbone]},
        "cell_types": ["T cell", "B cell"],
        "slides": [{"slide": "S_1"}],
        "alignment": "none",
        "scale": fit_learned_target("rank", np.eye(2)).to_json(),
    }
    folder = tmp_path / "cnn" / f"member_0_{backbone.replace(':', '_')}"
    folder.mkdir(parents=True)
    (folder / "model.pt").touch()
    (tmp_path / "cnn" / "finetune.json").write_text(json.dumps(identity))
    text, found = shown(tmp_path / "cnn")
    assert found["model"] == "end-to-end"
    assert found["features"] == backbone
    assert found["cell_types"] == ["T cell", "B cell"]
    assert found["use"] == [f"histoboost predict DATA {tmp_path / 'cnn'} -o predicted.csv"]
    assert "T cell, B cell" in text


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_model_is_refused_in_one_line(refusal, tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert name in refusal("show", tmp_path / name)
