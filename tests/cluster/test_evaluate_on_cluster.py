"""Stage 2 on a real Dask cluster equals stage 2 here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.regress.crossval import run_folds
from histoboost.regress.fold_cache import KeptFolds
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.scores import CrossValidation
from histoboost.regress.setup import Setup

SETUP = Setup(model="lightgbm", options={"n_estimators": 10})
#: Two models whose types can be divided, and one whose types cannot.
SETUPS = (
    SETUP,
    Setup(model="stack", smooth=0.3, options={"n_estimators": 10}),
    Setup(model="blend", options={"n_estimators": 10}),
)


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
        assert one.baselines == other.baselines
        for slide, predicted in one.predictions.items():
            np.testing.assert_array_equal(predicted, other.predictions[slide])


def trained_types(log: str) -> list[tuple[int, ...]]:
    """The cell types of every unit that a worker has begun."""
    return [literal_eval(types) for types in re.findall(r"cell types (\(.*\))", log)]


def has_a_part(log: str) -> bool:
    """Whether a worker has begun some of the 14 cell types of a fold, but not all."""
    return any(len(types) < 14 for types in trained_types(log))


def evaluate(store: Path, address: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    """The command, in a process of its own; scores go to ``scores.json``."""
    return subprocess.Popen(
        [sys.executable, "-m", "histoboost", "evaluate", str(store), "--scheduler", address]
        + ["--model", "lightgbm", "--json", str(folder / "scores.json"), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )


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
    # What the cluster did is kept: nothing is left for a second run.
    assert_same(run_folds(store, SETUP, seeds=2, client=None, kept=kept), expected)
    assert len(list((tmp_path / "folds").glob("*.json"))) == len(expected.folds)


def test_workers_divide_the_types_of_one_fold_and_read_the_features_once(
    cluster, store: EmbeddingStore
) -> None:
    from histoboost.cluster import connect

    cluster.start_worker("one")
    cluster.start_worker("two")
    with connect(cluster.address) as client:
        client.wait_for_workers(2, timeout=120)
        for setup in SETUPS:
            there = run_folds(store, setup, held_out=["S_1"], client=client)
            assert_same(there, run_folds(store, setup, held_out=["S_1"]))
            if setup is SETUPS[0]:
                divided = [trained_types(cluster.log(name)) for name in ("one", "two")]
    assert sorted(len(units) for units in divided) == [1, 1]
    assert sorted(i for units in divided for types in units for i in types) == list(range(14))
    for name in ("one", "two"):
        assert cluster.log(name).count("read features") == 1


def test_a_model_whose_types_several_workers_trained_has_the_same_files(
    cluster, store: EmbeddingStore, tmp_path: Path
) -> None:
    from histoboost.cluster import connect

    cluster.start_worker("one")
    cluster.start_worker("two")
    with connect(cluster.address) as client:
        client.wait_for_workers(2, timeout=120)
        for setup in SETUPS:
            here, there = tmp_path / f"{setup.model}-here", tmp_path / f"{setup.model}-there"
            for folder, used in ((here, None), (there, client)):
                model = CompositionRegressor()
                model.setup = setup
                model.fit(store, client=used).save(folder)
            assert [path.name for path in here.iterdir()]
            for path in here.iterdir():
                assert (there / path.name).read_bytes() == path.read_bytes()
    first = [trained_types(cluster.log(name))[0] for name in ("one", "two")]
    assert sorted(first) == [tuple(range(7)), tuple(range(7, 14))]


def test_a_worker_killed_in_the_middle_of_a_fold_costs_only_what_it_held(
    cluster, store: EmbeddingStore, tmp_path: Path
) -> None:
    workers = {name: cluster.start_worker(name) for name in ("one", "two")}
    cluster.wait_for_workers(2)
    # Three trainings on two workers: one for each, and the third is divided in two.
    choices = ["--held-out", "S_1", "--seeds", "3", "--set", "n_estimators=300"]
    run = evaluate(Path(store.location), cluster.address, tmp_path, *choices)
    deadline = time.monotonic() + 300
    while not (in_a_part := [name for name in workers if has_a_part(cluster.log(name))]):
        assert time.monotonic() < deadline, "no worker was given a part of a fold"
        time.sleep(0.01)
    workers[in_a_part[0]].send_signal(signal.SIGKILL)
    assert run.poll() is None, "the command was over before the worker died"
    _, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    setup = Setup(model="lightgbm", options={"n_estimators": 300})
    expected = run_folds(store, setup, seeds=3, held_out=["S_1"]).to_json()
    found = json.loads((tmp_path / "scores.json").read_text())
    units = trained_types(cluster.log("one") + cluster.log("two"))
    # It held the unit that it was at, and at most the result of the one before.
    assert 4 + 1 <= len(units) <= 4 + 2
    for one, other in zip(found["folds"], expected["folds"], strict=True):
        assert {**one, "fit_seconds": 0} == {**other, "fit_seconds": 0}


def test_a_worker_that_cannot_see_the_store_ends_the_command_with_one_line(
    cluster, store: EmbeddingStore, tmp_path: Path
) -> None:
    """Its file system is another one where the store is here."""
    location = Path(store.location)
    for name in ("one", "two"):
        cluster.start_worker(name, without=location.parent)
    cluster.wait_for_workers(2)
    run = evaluate(location, cluster.address, tmp_path, "--held-out", "S_1")
    _, err = run.communicate(timeout=400)
    assert run.returncode == 2, err
    errors = [line for line in err.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert "fold that holds out S_1, cell types" in errors[0]
    assert f"cannot see the store {location}" in errors[0]
    assert "Traceback" not in err


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
