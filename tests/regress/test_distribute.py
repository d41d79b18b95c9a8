"""Workers read what they need once, keep nothing stale, and return their warnings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning, pass_on
from histoboost.regress import distribute, fitting
from histoboost.regress.distribute import Unit, score_unit, source_of
from histoboost.regress.features import FeatureMatrix, StoredFeatures
from histoboost.regress.folds import Fold
from histoboost.regress.scores import run_fold
from histoboost.regress.setup import Setup

from .conftest import add_embedding, layout_of, matrix_of

SLIDES = ["A", "B", "C"]
FOLD = Fold((2,), (0, 1))


@pytest.fixture(autouse=True)
def held(monkeypatch):
    """Turn this process into a worker without data."""
    monkeypatch.setattr(distribute, "_held", distribute._Held())


def unit_of(store: EmbeddingStore, model: str = "ridge", fold: Fold = FOLD, **more: Any) -> Unit:
    setup = Setup("net@32", model, **more)
    return Unit(source_of(store, layout_of(store, SLIDES, setup.features), setup), fold, setup)


def test_a_worker_reads_once_and_lets_the_old_go(store, monkeypatch):
    read, real = [], distribute.features_for

    def noted(*arguments: Any) -> Any:
        assert distribute._held._matrix is None
        read.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(distribute, "features_for", noted)
    unit = unit_of(store)
    for fold in (FOLD, Fold((0,), (1, 2))):
        score_unit(replace(unit, fold=fold))
    assert len(read) == 1
    score_unit(unit_of(store, standardize="none"))
    assert len(read) == 2


def test_a_store_that_has_changed_since_is_read_again(make_store):
    store = make_store()
    unit = unit_of(store)
    before = score_unit(unit)[0].predictions["C"]
    rng = np.random.default_rng(0)
    store.remove("net@32")
    for slide in SLIDES:
        noise = rng.normal(size=(72, 12)).astype(np.float32)
        add_embedding(store, slide, "net@32", noise, patch_px=33)
    with pytest.raises(HistoboostError, match="holds other embeddings or labels there"):
        distribute._Held().matrix(unit)  # a worker that sees another store than the caller
    unit = unit_of(store)
    after = score_unit(unit)[0].predictions["C"]
    assert not np.array_equal(before, after)
    expected = run_fold(matrix_of(store, SLIDES, "net@32"), FOLD, unit.setup, 1)
    np.testing.assert_array_equal(after, expected.predictions["C"])


def test_what_a_worker_warns_of_comes_back_with_its_result(store):
    [said] = score_unit(unit_of(store, "stack", Fold((2,), (0,))))[1]
    assert "kernel ridge is used alone" in said
    with pytest.warns(HistoboostWarning, match="kernel ridge is used alone"):
        pass_on([said])


def test_a_worker_whose_threads_may_not_start_processes_warns(store, monkeypatch):
    monkeypatch.setattr(distribute, "worker_threads", lambda: 2)
    monkeypatch.setattr(distribute, "can_fork", lambda: False)
    [said] = score_unit(unit_of(store))[1]
    assert "train on one core each" in said
    assert "DASK_DISTRIBUTED__WORKER__DAEMON=False" in said


@pytest.mark.parametrize(("model", "kind"), [("kernel", StoredFeatures), ("ridge", FeatureMatrix)])
def test_a_worker_holds_no_more_features_than_its_model_needs(store, monkeypatch, model, kind):
    unit = unit_of(store, model)
    expected = score_unit(unit)[0].predictions["C"]
    monkeypatch.setattr(fitting, "MOST_BYTES", 0)
    monkeypatch.setattr(distribute, "_held", distribute._Held())
    found = score_unit(unit)[0].predictions["C"]
    assert isinstance(distribute._held.matrix(unit), kind)
    np.testing.assert_allclose(found, expected, atol=1e-5)
