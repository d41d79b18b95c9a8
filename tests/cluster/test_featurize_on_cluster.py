"""Stage 1 on a real Dask cluster equals stage 1 on this machine, whatever dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.on_worker import store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom

EMBED = ["--backbone", "stain-texture", "--patch", "24"]
NAME = "stain-texture@24"


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("slides") / "slides.h5", slides=6, spots=40)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, slides: Path) -> EmbeddingStore:
    store = tmp_path_factory.mktemp("local") / "store.zarr"
    featurize(slides, store, backbone="stain-texture", patch=[24])
    return EmbeddingStore(store, mode="r")


def arguments(slides: Path, store: Path, address: str, *more: str) -> list[str]:
    return ["featurize", str(slides), str(store), *EMBED, "--scheduler", address, *more]


def embed(slides: Path, store: Path, address: str) -> Result:
    return CliRunner().invoke(main, arguments(slides, store, address))


def embed_in_background(slides: Path, store: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "histoboost", *arguments(slides, store, address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_equal(store: Path, local: EmbeddingStore) -> None:
    made = EmbeddingStore(store, mode="r")
    assert made.slides() == local.slides()
    for slide in local.slides():
        assert made.embeddings(slide) == local.embeddings(slide)
        np.testing.assert_array_equal(made.read(slide, NAME), local.read(slide, NAME))


def wait_for_one_embedding(store: Path) -> None:
    deadline = time.monotonic() + 300
    while not list(store.glob(f"slides/*/obsm/{NAME}/zarr.json")):
        assert time.monotonic() < deadline, "no embedding appeared"
        time.sleep(0.02)


def test_a_cluster_embeds_the_same_as_this_machine_once(cluster, slides, local, tmp_path):
    cluster.start_worker("one")
    cluster.start_worker("two")
    store = tmp_path / "store.zarr"
    first = embed(slides, store, cluster.address)
    assert first.exit_code == 0, first.output
    assert "Dask workers" in first.stdout
    assert_equal(store, local)
    again = embed(slides, store, cluster.address)
    assert again.exit_code == 0, again.output
    assert "nothing computed" in again.stdout


def test_a_killed_worker_costs_only_the_units_it_held(cluster, slides, local, tmp_path):
    cluster.start_worker("one")
    victim = cluster.start_worker("two")
    store = tmp_path / "store.zarr"
    run = embed_in_background(slides, store, cluster.address)
    wait_for_one_embedding(store)
    victim.send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    assert_equal(store, local)


def test_a_caller_killed_in_the_middle_leaves_finished_slides(cluster, slides, local, tmp_path):
    cluster.start_worker("one")
    store = tmp_path / "store.zarr"
    caller = embed_in_background(slides, store, cluster.address)
    wait_for_one_embedding(store)
    caller.send_signal(signal.SIGKILL)
    caller.communicate()
    finished = set(store.glob(f"slides/*/obsm/{NAME}/zarr.json"))
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    second = embed(slides, store, cluster.address)
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps
    assert_equal(store, local)


def test_a_worker_without_access_to_the_store_is_named(cluster, slides, tmp_path, error_of):
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster.start_worker("one", without=shared)
    line = error_of(arguments(slides, shared / "store.zarr", cluster.address))
    assert f"cannot open the store {shared / 'store.zarr'}" in line
    assert "tcp://127.0.0.1" in line, "which worker it is"


def test_a_worker_creates_no_store(tmp_path: Path) -> None:
    with pytest.raises(HistoboostError, match="cannot open the store"):
        store_on_worker(str(tmp_path / "elsewhere.zarr"))
    assert not (tmp_path / "elsewhere.zarr").exists()


def test_a_worker_without_the_weights_is_one_line(cluster, slides, tmp_path, error_of):
    cluster.start_worker("one", TORCH_HOME=str(tmp_path / "no-weights-here"))
    more = ["--backbone", "mobilenet_v2"]
    line = error_of(arguments(slides, tmp_path / "store.zarr", cluster.address, *more))
    assert "mobilenet_v2" in line


def test_an_address_without_a_listener_is_one_line(slides: Path, tmp_path: Path, error_of) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    store = tmp_path / "store.zarr"
    line = error_of(arguments(slides, store, address))
    assert f"{address}: no Dask scheduler answers there" in line
    assert not store.exists()
