"""Stage 1 on a real Dask cluster equals stage 1 here, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
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


def embed_here(slides: Path, store: Path, address: str, *more: str) -> Result:
    return CliRunner().invoke(main, arguments(slides, store, address, *more))


def embed(slides: Path, store: Path, address: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
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
    while time.monotonic() < deadline:
        if list(store.glob(f"slides/*/obsm/{NAME}/zarr.json")):
            return
        time.sleep(0.02)
    raise TimeoutError("no embedding appeared")


def test_a_cluster_embeds_what_this_machine_embeds_and_then_nothing_again(
    cluster, slides: Path, local: EmbeddingStore, tmp_path: Path
) -> None:
    cluster.start_worker("one")
    cluster.start_worker("two")
    store = tmp_path / "store.zarr"
    first = embed_here(slides, store, cluster.address)
    assert first.exit_code == 0, first.output
    assert "Dask workers" in first.stdout
    assert_equal(store, local)
    again = embed_here(slides, store, cluster.address)
    assert again.exit_code == 0, again.output
    assert "nothing computed" in again.stdout


def test_a_worker_killed_in_the_middle_costs_only_the_units_it_held(
    cluster, slides: Path, local: EmbeddingStore, tmp_path: Path
) -> None:
    cluster.start_worker("one")
    victim = cluster.start_worker("two")
    store = tmp_path / "store.zarr"
    run = embed(slides, store, cluster.address)
    wait_for_one_embedding(store)
    victim.send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    assert_equal(store, local)


def test_a_caller_killed_in_the_middle_leaves_what_is_done(
    cluster, slides: Path, local: EmbeddingStore, tmp_path: Path
) -> None:
    cluster.start_worker("one")
    store = tmp_path / "store.zarr"
    caller = embed(slides, store, cluster.address)
    wait_for_one_embedding(store)
    caller.send_signal(signal.SIGKILL)
    caller.communicate()
    done_already = len(list(store.glob(f"slides/*/obsm/{NAME}/zarr.json")))
    second = embed_here(slides, store, cluster.address)
    assert second.exit_code == 0, second.output
    if done_already < len(local.slides()):
        assert "were there already" in second.stdout or "nothing computed" in second.stdout
    assert_equal(store, local)


def test_a_worker_that_cannot_see_the_store_is_named_in_one_line(
    cluster, slides: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster.start_worker("one", without=shared)
    run = embed_here(slides, shared / "store.zarr", cluster.address)
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error:")]
    assert run.exit_code == 2, run.output
    assert len(errors) == 1
    assert f"cannot open the store {shared / 'store.zarr'}" in errors[0]
    assert "tcp://127.0.0.1" in errors[0], "which worker it is"
    assert "Traceback" not in run.output


def test_a_worker_makes_no_store_where_it_sees_none(tmp_path: Path) -> None:
    from histoboost.cache.on_worker import store_on_worker
    from histoboost.errors import HistoboostError

    with pytest.raises(HistoboostError, match="cannot open the store"):
        store_on_worker(str(tmp_path / "elsewhere.zarr"))
    assert not (tmp_path / "elsewhere.zarr").exists()


def test_a_worker_without_the_weights_ends_the_run_with_one_line(
    cluster, slides: Path, tmp_path: Path
) -> None:
    cluster.start_worker("one", TORCH_HOME=str(tmp_path / "no-weights-here"))
    more = ["--backbone", "mobilenet_v2"]
    run = embed_here(slides, tmp_path / "store.zarr", cluster.address, *more)
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error:")]
    assert run.exit_code == 2, run.output
    assert len(errors) == 1
    assert "mobilenet_v2" in errors[0]
    assert "Traceback" not in run.output


def test_an_address_nobody_listens_at_is_one_line(slides: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    store = str(tmp_path / "store.zarr")
    result = CliRunner().invoke(
        main, ["featurize", str(slides), store, *EMBED, "--scheduler", address]
    )
    assert result.exit_code == 2
    assert address in result.stderr
    assert "no Dask scheduler answers there" in result.stderr
    assert not os.path.exists(store)
