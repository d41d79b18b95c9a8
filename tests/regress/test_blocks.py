"""Blocks of features count alike, however wide; what weighs them survives the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.setup import Setup

from .conftest import add_embedding, fill_store, matrix_of

KERNELS = ["ridge", "kernel"]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """A store whose embedding `twice` is net@32 and net@32 again."""
    store = EmbeddingStore(fill_store(tmp_path_factory.mktemp("twice") / "s.zarr"))
    for slide in "ABCD":
        values = store.read(slide, "net@32").astype(np.float32)
        add_embedding(store, slide, "twice", np.tile(values, 2))
    return store


@pytest.mark.parametrize("model", KERNELS)
@pytest.mark.parametrize("once", ["net@64+net@32", "net@64+pca:3(net@32)", "net@32:ring1+net@64"])
def test_an_embedding_that_is_twice_as_wide_counts_as_much(
    twice: EmbeddingStore, model: str, once: str
) -> None:
    found = []
    for features in (once, once.replace("net@32", "twice")):
        matrix = matrix_of(twice, ["A", "B", "C"], features)
        predictor = fit_predictor(matrix, [0, 1], Setup(features, model, group_by="slide"))
        found.append(predictor.predict(matrix.block(2), matrix.layout.spots[2].xy))
    np.testing.assert_allclose(*found, atol=2e-3)
    assert np.ptp(found[0], axis=0).min() > 0.01


@pytest.mark.parametrize("model", [*KERNELS, "coords", "stack"])
def test_the_weights_of_blocks_survive_the_bundle(
    store: EmbeddingStore, tmp_path: Path, model: str
) -> None:
    options = {"n_estimators": 5} if model == "stack" else {}
    trained = CompositionRegressor("net@32+pca:3(net@64)", model, options=options)
    trained.fit(store, jobs=1).save(tmp_path / "m")
    loaded = CompositionRegressor.load(tmp_path / "m")
    for units in ("none", "share", "rank-slide"):
        [one], [other] = (each.predict(store, units=units) for each in (trained, loaded))
        np.testing.assert_array_equal(one.values, other.values)
    assert loaded.importances() == trained.importances()


def test_jobs_and_threads_do_not_change_the_joint_stack(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    matrix = matrix_of(store, ["A", "B", "C"], "net@*")
    setup = Setup("net@*", group_by="slide", options={"n_estimators": 6})
    found = []
    for threads, jobs in ((1, 1), (2, 2)):
        with threadpool_limits(threads):
            predictor = fit_predictor(matrix, [0, 1], setup, jobs)
            found.append(predictor.predict(matrix.block(2), matrix.layout.spots[2].xy))
    np.testing.assert_array_equal(*found)
