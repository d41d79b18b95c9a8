"""Stage 2 on a real Dask cluster equals stage 2 on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import connect
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.regress.crossval import run_folds
from histoboost.regress.fold_cache import FoldCache
from histoboost.regress.held_out import held_out_frame
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.scores import CrossValidation
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides

SETUP = Setup(model="lightgbm", group_by="slide", options={"n_estimators": 10})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> EmbeddingStore:
    location = tmp_path_factory.mktemp("cluster") / "store.zarr"
    featurize(phantom_h5, location, backbone="stain-texture", patch=[24])
    return EmbeddingStore(location, mode="r")


def assert_equal(found: CrossValidation, expected: CrossValidation) -> None:
    for one, other in zip(found.folds, expected.folds, strict=True):
        assert one.held_out == other.held_out
        assert one.spot_spearman == other.spot_spearman
        assert one.type_spearman == other.type_spearman
        assert one.baselines == other.baselines
        for slide, predicted in one.predictions.items():
            np.testing.assert_array_equal(predicted, other.predictions[slide])


def begun(log: str) -> int:
    """Number of folds that a worker has begun."""
    return log.count("fold that holds out")


def test_folds_and_models_of_a_cluster_equal_those_of_this_machine(cluster, store, tmp_path):
    cluster.start_worker("one")
    cluster.start_worker("two")
    spots = labelled_slides(store)
    cache = FoldCache(tmp_path / "folds")
    options = {"n_estimators": 10}
    with connect(cluster.address) as client:
        client.wait_for_workers(2, timeout=120)
        for setup in (SETUP, replace(SETUP, model="stack", smooth=0.3)):
            expected = run_folds(store, setup, spots, seeds=2)
            found = run_folds(store, setup, spots, seeds=2, client=client, cache=cache)
            assert_equal(found, expected)
            assert_frame_equal(held_out_frame(found), held_out_frame(expected))
        model = CompositionRegressor(model="stack", smooth=0.3, options=options)
        model.fit(store, client=client).save(tmp_path / "cluster-model")
        model.fit(store).save(tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        assert (tmp_path / "cluster-model" / path.name).read_bytes() == path.read_bytes()
    # The cluster's folds are kept: a second run computes nothing.
    assert len(list((tmp_path / "folds").glob("*.json"))) == 2 * len(expected.folds)
    assert_equal(run_folds(store, setup, spots, seeds=2, cache=cache), expected)
    for name in ("one", "two"):
        assert cluster.log(name).count("read features") == 1


def test_a_worker_killed_in_the_middle_of_a_fold_costs_only_what_it_held(cluster, store, tmp_path):
    workers = {name: cluster.start_worker(name) for name in ("one", "two")}
    cluster.wait_for_workers(2)
    run = subprocess.Popen(
        [sys.executable, "-m", "histoboost", "evaluate", store.location]
        + ["--scheduler", cluster.address, "--model", "lightgbm", "--held-out", "S_1"]
        + ["--seeds", "3", "--set", "n_estimators=150", "--json", str(tmp_path / "scores.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    deadline = time.monotonic() + 300
    while not (busy := [name for name in workers if begun(cluster.log(name))]):
        assert time.monotonic() < deadline, "no worker was given a fold"
        time.sleep(0.01)
    workers[busy[0]].send_signal(signal.SIGKILL)
    assert run.poll() is None, "the command was over before the worker died"
    _, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    setup = Setup(model="lightgbm", options={"n_estimators": 150})
    spots = labelled_slides(store)
    expected = run_folds(store, setup, spots, seeds=3, held_out=["S_1"]).to_json()
    found = json.loads((tmp_path / "scores.json").read_text())
    # Lost are the current unit and at most the result of the one before.
    assert 3 + 1 <= begun(cluster.log("one") + cluster.log("two")) <= 3 + 2
    for one, other in zip(found["folds"], expected["folds"], strict=True):
        assert {**one, "fit_seconds": 0} == {**other, "fit_seconds": 0}


def test_a_lost_scheduler_is_one_line_and_finished_folds_are_kept(cluster, store, tmp_path):
    cluster.start_worker("one")
    kept = FoldCache(tmp_path / "folds")
    keep = kept.keep

    def keep_then_lose_the_scheduler(key: str, result: object) -> None:
        keep(key, result)
        cluster.stop()

    kept.keep = keep_then_lose_the_scheduler
    with (
        pytest.raises(HistoboostError, match="run the same command again"),
        connect(cluster.address) as client,
    ):
        run_folds(store, SETUP, labelled_slides(store), seeds=4, client=client, cache=kept)
    assert list((tmp_path / "folds").glob("*.json"))
