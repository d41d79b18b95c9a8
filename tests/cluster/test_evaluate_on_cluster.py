"""Stage 2 on a real Dask cluster equals stage 2 here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize.embed import featurize
from histoboost.regress.crossval import CrossValidation, run_folds
from histoboost.regress.kept import KeptFolds
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.setup import Setup

SETUP = Setup(model="lightgbm", options={"n_estimators": 10})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> EmbeddingStore:
    location = tmp_path_factory.mktemp("cluster") / "store.zarr"
    featurize(phantom_h5, location, backbone="stain-texture", patch=[24])
    return EmbeddingStore(location, mode="r")


def assert_same(found: CrossValidation, expected: CrossValidation) -> None:
    for one, other in zip(found.folds, expected.folds, strict=True):
        assert one.held_out == other.held_out
        assert one.spot_spearman == other.spot_spearman
        assert one.type_spearman == other.type_spearman


def test_folds_and_models_of_a_cluster_equal_those_of_this_machine(
    cluster, store: EmbeddingStore, tmp_path: Path
) -> None:
    from histoboost.cluster import connect

    cluster.start_worker("one")
    cluster.start_worker("two")
    expected = run_folds(store, SETUP, seeds=2)
    kept = KeptFolds(tmp_path / "folds")
    with connect(cluster.address) as client:
        client.wait_for_workers(2, timeout=120)
        assert_same(run_folds(store, SETUP, seeds=2, client=client, kept=kept), expected)
        here = CompositionRegressor(model="lightgbm", options={"n_estimators": 10}).fit(store)
        there = CompositionRegressor(model="lightgbm", options={"n_estimators": 10})
        there.fit(store, client=client)
    for one, other in zip(there.predict(store), here.predict(store), strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    # What the cluster did is kept: nothing is left for a second run.
    assert_same(run_folds(store, SETUP, seeds=2, client=None, kept=kept), expected)
    assert len(list((tmp_path / "folds").glob("*.json"))) == len(expected.folds)


def test_a_scheduler_without_workers_is_said_in_one_line(
    cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histoboost import cluster as ours

    monkeypatch.setattr(ours, "WORKER_TIMEOUT_S", 0.2)
    with pytest.raises(HistoboostError, match="has no workers"), ours.connect(cluster.address):
        pass


def test_a_lost_scheduler_is_said_in_one_line_and_what_is_done_is_kept(
    cluster, store: EmbeddingStore, tmp_path: Path
) -> None:
    from histoboost.cluster import connect

    cluster.start_worker("one")
    kept = KeptFolds(tmp_path / "folds")
    keep = kept.keep

    def keep_then_lose_the_scheduler(key: str, result: object) -> None:
        keep(key, result)
        cluster.stop()

    kept.keep = keep_then_lose_the_scheduler
    with (
        pytest.raises(HistoboostError, match="run the same command again"),
        connect(cluster.address) as client,
    ):
        run_folds(store, SETUP, seeds=4, client=client, kept=kept)
    assert list((tmp_path / "folds").glob("*.json"))
