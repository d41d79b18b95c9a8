"""Ablations are paired comparisons and resume after an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress import crossval
from histoboost.regress.ablate import ablate, paired_difference
from histoboost.regress.baselines import SCORES
from histoboost.regress.fold_cache import FoldCache, default_folder
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides
from histoboost.spots import SpotTable

from .conftest import add_embedding, hexagonal

BY_SLIDE = {"model": "ridge", "group_by": "slide"}
pytestmark = pytest.mark.filterwarnings("ignore:slides A, B are of one group")


def score(store: EmbeddingStore, kept: FoldCache, slides: str = "ABC", **change: object) -> None:
    setup = Setup("net@32", **{**BY_SLIDE, **change})
    crossval.run_folds(store, setup, labelled_slides(store, list(slides)), cache=kept)


@pytest.mark.parametrize("overlap", [0, 1 / 2])
def test_intervals_are_those_of_the_paired_t_test_widened_by_shared_training_slides(overlap):
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    found = paired_difference(a, b, overlap)
    expected = ttest_1samp(a - b, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx((a - b).mean()) == pytest.approx(np.mean(found.interval))
    assert np.ptp(found.interval) == pytest.approx(np.ptp(expected) * np.sqrt(1 + 6 * overlap))
    assert found.folds == pytest.approx(a - b)
    assert paired_difference(a[:1], b[:1], overlap).interval is None


def test_the_overlap_is_that_of_held_out_and_training_slides(store):
    table = ablate(store, ["net@32", "net@64"], model="ridge", group_by="group")
    values = [row.by_fold("spot_spearman") for row in table.rows]
    expected = paired_difference(*values[::-1], overlap=(2 / 1 + 1 / 2) / 2)
    assert table.difference(1, "spot_spearman") == expected


def test_rows_are_compared_with_the_first_fold_by_fold(store):
    table = ablate(store, ["net@32", "net@64", "net@32"], **BY_SLIDE)
    result = json.loads(json.dumps(table.to_json()))
    first, second, same = result["rows"]
    for name in SCORES:
        each = [fold[f"delta_{name}"] for fold in second["folds"]]
        pairs = zip(second["folds"], first["folds"], strict=True)
        assert each == pytest.approx([mine[name] - theirs[name] for mine, theirs in pairs])
        assert np.mean(each) == pytest.approx(second[f"delta_{name}"])
        assert {fold[f"delta_{name}"] for fold in same["folds"]} == {same[f"delta_{name}"]} == {0}
    low, high = second["delta_spot_spearman_interval"]
    assert low <= second["delta_spot_spearman"] <= high
    assert "Only 3 folds" in result["caution"]


def test_leave_one_out_drops_each_term_in_turn(store):
    table = ablate(store, ["net@*+coords"], leave_one_out=True, **BY_SLIDE)
    assert [row.setup.features for row in table.rows] == [
        "net@32+net@64+coords",
        "net@64+coords",
        "net@32+coords",
        "net@32+net@64",
    ]


def test_leave_one_out_of_many_terms_drops_what_they_share(tmp_path):
    store, rng = EmbeddingStore(tmp_path / "s.zarr"), np.random.default_rng(0)
    layers = ("net@32", "net@32.layer1.std", "net@64", "net@64.layer1.std")
    for slide in ("A", "B"):
        abundance = rng.random((20, 2)).astype(np.float32)
        spots = SpotTable(slide, hexagonal(5, 4), tuple(map(str, range(20))), abundance, ("a", "b"))
        store.write_spots(spots)
        for name in layers:
            add_embedding(store, slide, name, rng.normal(size=(20, 2)).astype(np.float32))
    table = ablate(store, ["default+net@*:ring1+coords"], leave_one_out=True, model="mean")
    parts = ["coords", "patch 32", "patch 64", "layer last", "layer layer1.std"]
    around = ["the spot itself", ":area1", ":area10", ":area90", ":ring1"]
    assert list(table.left_out.values()) == [*parts, *around]
    rows = {name: table.rows[at].setup.features.split("+") for at, name in table.left_out.items()}
    everything = table.rows[0].setup.features.split("+")
    assert rows["patch 32"] == [term for term in everything if not term.startswith("net@32")]
    assert rows[":area10"] == [term for term in everything if not term.endswith(":area10")]
    assert rows["layer last"] == [
        term for term in everything if "layer1" in term or term == "coords"
    ]
    assert rows["coords"] == everything[:-1]
    assert [row.get("without") for row in table.to_json()["rows"]] == [None, *parts, *around]


def test_seeds_are_averaged(store):
    few = {"n_estimators": 5, "num_leaves": 3}
    table = ablate(store, ["net@32", "net@64"], seeds=2, options=few, group_by="slide", jobs=1)
    assert [fold.seed for fold in table.rows[0].folds] == [0, 0, 0, 1, 1, 1]
    assert len(table.rows[0].by_fold("spot_spearman")) == 3
    assert table.to_json()["rows"][0]["seed_spread"]["spot_spearman"] > 0


def test_nothing_to_compare_is_refused(store):
    with pytest.raises(HistoboostError, match="nothing to compare"):
        ablate(store, ["net@32"])
    with pytest.raises(HistoboostError, match="has one term"):
        ablate(store, ["net@32"], leave_one_out=True)


def test_a_slip_in_the_last_feature_set_shows_before_the_first_is_computed(store, monkeypatch):
    computed: list[object] = []
    monkeypatch.setattr(crossval, "run_fold", lambda *arguments: computed.append(arguments))
    with pytest.raises(HistoboostError, match="no embedding matches"):
        ablate(store, ["net@32", "net@64", "net@32:ring1+nte@*"], **BY_SLIDE)
    assert not computed


def test_a_feature_set_is_warned_about_once(store):
    with pytest.warns(HistoboostWarning) as heard:
        ablate(store, ["pca:99(net@32)+coords"], leave_one_out=True, **BY_SLIDE)
    assert sum("pca:99" in str(one.message) for one in heard) == 1


def test_an_interrupted_ablation_resumes(store, tmp_path, monkeypatch):
    real, done = crossval.run_fold, []

    def interrupted(*arguments: object) -> object:
        done.append(arguments[1])
        if len(done) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    kept, specs = FoldCache(tmp_path / "kept"), ["net@32", "net@64"]
    monkeypatch.setattr(crossval, "run_fold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(store, specs, **BY_SLIDE, cache=kept)
    resumed = ablate(store, specs, **BY_SLIDE, cache=kept)
    assert len(done) == 5 + 2
    fresh = ablate(store, specs, **BY_SLIDE)
    for one, other in zip(resumed.rows, fresh.rows, strict=True):
        np.testing.assert_array_equal(one.by_fold("spot_spearman"), other.by_fold("spot_spearman"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:20],
        lambda text: text.replace('"spot_spearman": 0.', '"spot_spearman": 0.9'),
        lambda text: text.replace('"n_spots": 72', '"n_spots": 73'),
        lambda text: "[" * 100_000,
    ],
    ids=["cut short", "another score", "another number of spots", "deep"],
)
def test_a_kept_result_that_is_not_as_it_was_written_is_computed_again(store, tmp_path, change):
    kept = FoldCache(tmp_path)
    first = ablate(store, ["net@32", "net@64"], **BY_SLIDE, cache=kept)
    for path in tmp_path.glob("*.json"):
        path.write_text(change(path.read_text()))
    again = ablate(store, ["net@32", "net@64"], **BY_SLIDE, cache=kept)
    assert first.to_json()["rows"][0]["mean"] == again.to_json()["rows"][0]["mean"]


@pytest.mark.parametrize(
    "change",
    [{"target": "raw"}, {"seed": 1}, {"standardize": "none"}, {"smooth": 0.1}, {"slides": "AB"}],
)
def test_whatever_changes_the_numbers_is_computed_again(store, tmp_path, change):
    kept = FoldCache(tmp_path)
    score(store, kept)
    score(store, kept, **change)
    assert len(list(tmp_path.iterdir())) > 3


def test_changed_labels_or_embeddings_are_computed_again(make_store, tmp_path):
    kept = FoldCache(tmp_path)
    for store, count in ((make_store(), 3), (make_store(seed=1), 6), (make_store(), 6)):
        score(store, kept)
        assert len(list(tmp_path.iterdir())) == count


def test_without_a_home_directory_the_remedy_is_named(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(HistoboostError, match="no home directory; choose a folder with --keep"):
        default_folder()
