"""Trained models survive saving and refuse stores and bundles that do not fit."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.outputs.table import write_submission
from histoboost.regress.compatibility import check_alike
from histoboost.regress.heads import MODELS
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.units import UNITS

from .conftest import TYPES, add_embedding, replace_file, rewrite

FEW = {"n_estimators": 10, "num_leaves": 4}


def trained(store: EmbeddingStore, model: str = "lightgbm", **more: Any) -> CompositionRegressor:
    options = FEW if model == "lightgbm" else {}
    fit = {"intervals": more.pop("intervals", False), "jobs": 1}
    spec = more.pop("features", "pca:3(net@32)+net@64:ring1+coords")
    return CompositionRegressor(spec, model, options=options, **more).fit(store, **fit)


@pytest.mark.parametrize("model", MODELS)
def test_a_saved_model_predicts_the_same(store, model, tmp_path):
    first = trained(store, model, smooth=0.25)
    first.save(tmp_path / "m")
    second = CompositionRegressor.load(tmp_path / "m")
    for units in ("none", "rank", "rank-slide", "share", "abundance"):
        a, b = (m.predict(store, units=units)[0].values for m in (first, second))
        np.testing.assert_array_equal(a, b)
    assert second.setup_ == first.setup_
    assert second.cell_types_ == TYPES
    assert second.importances() == pytest.approx(first.importances())


def test_globs_are_resolved_in_training_so_later_embeddings_change_nothing(make_store):
    store = make_store(slides=3)
    model = trained(store, "ridge", features="net@*")
    before = model.predict(store)[0].values
    for slide in store.slides():
        add_embedding(store, slide, "net@16", np.ones((72, 3), np.float32))
    np.testing.assert_array_equal(model.predict(store)[0].values, before)


NET = {"backbone": "net", "patch_px": 32}


@pytest.mark.parametrize(
    ("made", "command"),
    [
        ({"net@32": NET, "net@64": {**NET, "patch_px": 64}}, "--backbone net --patch 32,64"),
        (
            {"hf-hub-a-b@55um": {"backbone": "hf-hub:a/b", "patch_um": 55.0, "precision": "bf16"}},
            "--backbone hf-hub:a/b --precision bf16 --patch 55um",
        ),
        (
            {"mine": {**NET, "stain": "macenko, torchstain's", "views": 8}},
            "--backbone net --stain macenko --views 8 --name mine --patch 32",
        ),
        (
            {
                "net@32": {**NET, "layer": "pool"},
                "net@32.b.3": {**NET, "layer": "b.3:mean"},
                "net@64.b.1.std": {"backbone": "net", "patch_px": 64, "layer": "b.1:std"},
            },
            "--backbone net --layers default,b.3:mean,b.1:std --patch 32,64",
        ),
        ({"net@32": {**NET, "tuned_on": []}}, "--backbone net --weights FILE --patch 32"),
        ({"own": {"source": "import", "array": "a"}}, "histoboost cache import STORE own DIR"),
        ({"odd": {"maker": "somebody"}}, "store them as for the training slides"),
    ],
)
def test_a_missing_embedding_is_named_with_the_command_to_make_it(store, tmp_path, made, command):
    bare = EmbeddingStore(tmp_path / "bare.zarr")
    bare.write_spots(store.spots("D"))
    with pytest.raises(HistoboostError) as caught:
        check_alike(made, bare, ["D"])
    line = str(caught.value).replace(str(bare.location), "STORE")
    assert line.startswith(f"STORE: D: no {', '.join(made)}, which the model needs; ")
    start = "histoboost featurize DATA STORE " if command.startswith("--") else ""
    assert start + command in line
    assert "\n" not in line


def test_predictions_of_a_training_slide_are_warned_about(store, recwarn):
    model = trained(store, "ridge", features="net@32")
    recwarn.clear()
    model.predict(store)
    assert not recwarn.list
    with pytest.warns(HistoboostWarning, match="^A, C: the model was trained on .*evaluate"):
        model.predict(store, ["D", "A", "C"])


@pytest.mark.parametrize("model", MODELS)
def test_importances_name_every_term_sum_to_one_and_are_explained(store, model):
    shares = trained(store, model).importances()
    assert bool(shares) == bool(MODELS[model].importance) == bool(MODELS[model].meaning)
    if shares:
        assert list(shares) == ["pca:3(net@32)", "net@64:ring1", "coords"]
        assert sum(shares.values()) == pytest.approx(1)


def test_embeddings_made_differently_than_in_training_are_refused(store, tmp_path):
    model = trained(store, "ridge", features="net@32")
    other = EmbeddingStore(tmp_path / "o.zarr")
    other.write_spots(store.spots("D"))
    values = store.read("D", "net@32").astype(np.float32)
    with pytest.raises(HistoboostError, match="D: no net@32, which the model needs"):
        model.predict(other)
    add_embedding(other, "D", "net@32", values, patch_px=33)
    with pytest.raises(HistoboostError, match="patch_px: 32, not 33"):
        model.predict(other)


def test_intervals_widen_with_their_level_and_need_a_model_trained_for_them(store, tmp_path):
    without = trained(store, "ridge")
    with pytest.raises(HistoboostError, match="without prediction intervals; train it again with"):
        without.predict(store, interval=0.9)
    with pytest.raises(HistoboostError, match="interval 2: must lie between 0 and 1"):
        without.predict(store, interval=2)
    with pytest.raises(HistoboostError, match="--intervals .*: needs two labelled slides"):
        CompositionRegressor(model="ridge").fit(store, store.slides()[:1], intervals=True)
    model = trained(store, "ridge", intervals=True)
    model.save(tmp_path / "m")
    loaded = CompositionRegressor.load(tmp_path / "m")
    for units in ("rank", "none", "abundance", "softmax"):
        widths = []
        for level in (0.5, 0.9):
            [one] = loaded.predict(store, units=units, interval=level)
            assert (one.low <= one.values).all()
            assert (one.values <= one.high).all()
            smallest, largest = UNITS[units]
            assert one.low.min() >= smallest, "a bound beyond what the unit can be"
            assert one.high.max() <= largest
            widths.append((one.high - one.low).mean())
        assert widths[1] > widths[0]
    with pytest.raises(HistoboostError, match="too few"):
        loaded.predict(store, interval=0.9999)
    with pytest.raises(HistoboostError, match="between 0 and 1"):
        loaded.predict(store, interval=1.5)


@pytest.mark.parametrize("target", ["rank", "raw"])
def test_bounds_of_abundances_are_negative_only_where_labels_may_be(make_store, target):
    store = make_store()
    lowest = {}
    for sign in ("none below 0", "some below 0"):
        model = trained(store, "ridge", target=target, intervals=True)
        [one] = model.predict(store, units="abundance", interval=0.95)
        assert (one.low <= one.high).all()
        lowest[sign] = one.low.min()
        tables = [store.spots(slide) for slide in "ABC"]
        store.relabel([replace(t, abundance=t.abundance - np.float32(1)) for t in tables])
    assert lowest["none below 0"] == 0
    assert lowest["some below 0"] < -1


def test_the_submission_keeps_every_row_in_order(store, tmp_path):
    predictions = trained(store).predict(store, ["D", "A"])
    write_submission(tmp_path / "s.csv", predictions)
    table = pd.read_csv(tmp_path / "s.csv", index_col="ID")
    assert (list(table), list(table.index)) == (list(TYPES), list(range(144)))
    np.testing.assert_allclose(table, np.concatenate([p.values for p in predictions]), rtol=1e-6)


@pytest.fixture
def bundle(store, tmp_path):
    trained(store).save(tmp_path / "m")
    return tmp_path / "m"


def test_no_file_of_a_bundle_is_a_pickle(bundle):
    assert {path.suffix for path in bundle.iterdir()} == {".json", ".txt", ".npy"}
    for path in bundle.glob("*.npy"):
        np.load(path, allow_pickle=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["files"].update({"../../etc/passwd": "0"}), "that no model has"),
        (lambda d: d["files"].update({"/etc/passwd": "0"}), "that no model has"),
        (lambda d: d["files"].update({"lightgbm_099.txt": "0" * 64}), "is missing"),
        (lambda d: d.update(files=None), "lists no files"),
        (lambda d: d.update(histoboost_model=99), "newer than this histoboost"),
        (lambda d: d.update(histoboost_model="1"), "not a histoboost model"),
        (lambda d: d.pop("target"), "KeyError: 'target'"),
        (lambda d: d["cell_types"].append("C9"), "7 cell types, but models for 19 targets"),
        (lambda d: d["head"].update(models=3), "6 cell types, but models for 3 targets"),
        (lambda d: d["head"].update(models=99), "lightgbm_019"),
        (lambda d: d["columns"].pop(), "do not fit each other"),
        (lambda d: d["setup"].update(model="forest"), "unknown; choose one of"),
        (lambda d: d["setup"].pop("seed"), "do not fit"),
        (lambda d: d["setup"].update(features=3), "does not describe a model"),
        (lambda d: d["target"].update(name="cube"), "unknown"),
        (lambda d: d.update(recipes=[1]), "does not describe a model"),
    ],
)
def test_a_bundle_whose_json_was_changed_is_refused_in_one_line(bundle, change, message):
    rewrite(bundle, change)
    with pytest.raises(HistoboostError, match=message) as caught:
        CompositionRegressor.load(bundle)
    assert "\n" not in str(caught.value).strip()


def test_an_edited_model_json_is_refused_and_can_be_trained_over(store, bundle):
    text = (bundle / "model.json").read_text()
    edited = json.loads(text)
    edited["target"]["profile"][0] += 1
    (bundle / "model.json").write_text(json.dumps(edited))
    with pytest.raises(HistoboostError, match="has changed since it was written; train"):
        CompositionRegressor.load(bundle)
    trained(store).save(bundle)
    assert (bundle / "model.json").read_text() == text


def test_the_estimator_follows_scikit_learn(store):
    options = {"n_estimators": 7}
    model = CompositionRegressor("net@*", "lightgbm", smooth=0.5, options=options)
    assert model.get_params()["options"] is options
    assert repr(model).startswith("CompositionRegressor(features='net@*', model='lightgbm'")
    again = clone(model).set_params(smooth=0.25, seed=3)
    assert again.get_params() == {**model.get_params(), "smooth": 0.25, "seed": 3}
    again.fit(store, "A", jobs=1)
    assert again.features == "net@*"
    assert again.setup_.features == "net@32+net@64"
    assert again.training_slides_ == ("A",)
    with pytest.raises(HistoboostError, match="choose one of stack"):
        CompositionRegressor(model="forest").fit(store)


def test_predictions_are_a_table_of_spots(store, store_path):
    model = trained(store, "ridge", features="net@32", intervals=True)
    with pytest.warns(HistoboostWarning, match="trained on"):
        both = model.predict(store_path, ["D", "A"], units="none", interval=0.5)
    frame = both.to_frame()
    bounds = [f"{name}{end}" for end in ("_lower", "_upper") for name in TYPES]
    assert list(frame) == ["slide", "spot", "x", "y", *TYPES, *bounds, "novelty"]
    assert list(frame["slide"]) == ["D"] * 72 + ["A"] * 72
    table = store.spots("A")
    np.testing.assert_array_equal(frame.loc[72:, ["x", "y"]], table.xy)
    assert tuple(frame.loc[72:, "spot"]) == table.spot_ids
    np.testing.assert_array_equal(frame.loc[72:, list(TYPES)], both[1].values)
    assert repr(both[0]) == "<Prediction: slide D, 72 spots, 6 types, none>"
    assert repr(both).startswith("<Predictions: 2 slides>")
    assert len(model.predict(store, "D")) == 1


def test_files_that_are_cut_short_or_swapped_are_refused(bundle):
    [path] = bundle.glob("lightgbm_000-*.txt")
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2])
    with pytest.raises(HistoboostError, match=r"lightgbm_000-\w+.txt: is damaged"):
        CompositionRegressor.load(bundle)
    replace_file(bundle, "lightgbm_000.txt", text[: len(text) // 2])
    with pytest.raises(HistoboostError, match="cut short"):
        CompositionRegressor.load(bundle)
    replace_file(bundle, "lightgbm_000.txt", text)
    CompositionRegressor.load(bundle)
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for pickled in (pickle.dumps([1]), objects.getvalue()):
        replace_file(bundle, "pca_00_mean.npy", pickled)
        with pytest.raises(HistoboostError, match="is not a NumPy array"):
            CompositionRegressor.load(bundle)


def test_what_is_no_bundle_is_neither_read_nor_replaced(store, bundle, tmp_path):
    model = trained(store, "mean", features="net@32")
    model.save(bundle)
    assert CompositionRegressor.load(bundle).setup_.model == "mean"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (bundle / "model.json").write_text("{")
    for use, name, message in (
        (CompositionRegressor.load, "none", "no such model"),
        (CompositionRegressor.load, "notes", r"no model\.json"),
        (CompositionRegressor.load, "m", "not valid JSON"),
        (model.save, "notes", "is a folder but no model"),
        (model.save, "notes/a.txt", "is a file"),
        (model.save, "nowhere/m", "no such folder"),
        (CompositionRegressor("net@32").save, "m", "is not trained"),
    ):
        with pytest.raises(HistoboostError, match=message):
            use(tmp_path / name)
