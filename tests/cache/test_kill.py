"""After SIGKILL at any moment, the next run completes the store as if nothing had happened."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Run:
    """Exit status of one child, numbers of chunks written and embeddings published, and errors."""

    def __init__(self, status: int, report: str) -> None:
        self.status = status
        self.log, self.errors = (
            path.read_text() if path.exists() else ""
            for path in (Path(report), Path(f"{report}.err"))
        )
        self.written = self.log.count("write None")
        self.published = self.log.count("publish True")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Run]]]:
    """Run a job in forked children, see fork_server.py; they are killed after `kill_after_s`."""
    script = Path(__file__).with_name("fork_server.py")
    folder, jobs = tmp_path_factory.mktemp("server"), itertools.count()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=pipe, stdout=pipe, text=True
    ) as server:
        assert server.stdout.readline() == "ready\n"

        def run(job, store, *, copies=1, kill_after_s=None, die_at=None, **options) -> list[Run]:
            report = str(folder / f"report-{next(jobs)}")
            request = {"job": job, "arguments": {"store": str(store), **options}}
            request |= {"copies": copies, "die_at": die_at, "report": report}
            print(json.dumps(request), file=server.stdin, flush=True)
            pids = json.loads(server.stdout.readline())
            if kill_after_s is not None:
                time.sleep(kill_after_s)
                # The server reaps its children later: the pids are still theirs.
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            statuses = json.loads(server.stdout.readline())
            return [Run(status, f"{report}.{copy}") for copy, status in enumerate(statuses)]

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    from histoboost.phantom import write_phantom

    path = tmp_path_factory.mktemp("data") / "phantom.h5"
    return str(write_phantom(path, slides=1, unlabelled=1, spots=50))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same chunk size as in the server."""
    monkeypatch.setattr("histoboost.cache.layout.CHUNK_ROWS", 16)


def staged(store: Path) -> int:
    """Number of durable chunks of unpublished embeddings."""
    count = 0
    for label in store.glob(".staging/*/unit.json"):
        unit = json.loads(label.read_text())
        if not (store / "slides" / unit["slide"] / "obsm" / unit["embedding"]).exists():
            count += len({path.name[:6] for path in label.parent.glob("chunks/0*")})
    return count


def published(store: Path) -> int:
    """Number of chunks of published embeddings."""
    return len(list(store.glob("slides/*/obsm/*@*/c/*/0")))


@pytest.mark.parametrize("times", [12, pytest.param(100, marks=pytest.mark.soak)])
def test_featurize_killed_at_random_moments_resumes(run, data, files, tmp_path, times):
    arguments = {"data": data, "backbone": "stain-texture", "patch": [16, 32]}
    started = time.monotonic()
    (one,) = run("featurize", tmp_path / "whole", **arguments)
    duration = time.monotonic() - started
    assert one.status == 0, one.errors
    total, expected = one.written, files(tmp_path / "whole")
    assert total >= 12
    rng = np.random.default_rng()
    killed = 0
    for i in range(times):
        store = tmp_path / f"store-{i}"
        moment = rng.uniform(0, duration)
        (one,) = run("featurize", store, kill_after_s=moment, **arguments)
        assert one.status in (0, -signal.SIGKILL), one.errors
        if one.status == 0:  # finished before the moment: try earlier ones
            duration *= 0.7
        killed += one.status != 0
        kept = staged(store) + published(store)
        assert kept >= one.written, f"killed after {moment} s: a chunk was lost"
        (again,) = run("featurize", store, **arguments)
        assert again.status == 0, again.errors
        assert again.written == total - kept, f"killed after {moment} s"
        assert files(store) == expected, f"killed after {moment} s"
        shutil.rmtree(store)
    assert killed


@pytest.mark.parametrize("share", [0.2, pytest.param(1, marks=pytest.mark.soak)])
def test_a_writer_killed_before_any_operation_resumes(run, files, tmp_path, small_chunks, share):
    (one,) = run("chunks", tmp_path / "whole")
    assert one.status == 0, one.errors
    total, operations = one.written, int(one.log.split("operations ")[1])
    expected = files(tmp_path / "whole")
    numbers = np.random.default_rng().permutation(operations)[: int(share * operations)] + 1
    for n in map(int, numbers):
        store = tmp_path / f"store-{n}"
        (one,) = run("chunks", store, die_at=n)
        assert one.status == -signal.SIGKILL
        kept = staged(store) + published(store)
        assert kept >= one.written
        if store.exists():
            # All that readers see is intact.
            found = EmbeddingStore(store).verify().damaged
            assert all(d.slide is None and "is missing" in d.reason for d in found), (n, found)
        (again,) = run("chunks", store)
        assert again.status == 0, again.errors
        assert again.written == total - kept
        assert files(store) == expected, n
        assert not EmbeddingStore(store).verify().damaged
        EmbeddingStore(store).gc()
        # The empty folder itself may remain.
        assert not list(store.glob(".staging/*"))
        shutil.rmtree(store)


@pytest.mark.parametrize("job", ["featurize", "chunks"])
def test_four_processes_publish_each_embedding_once(run, data, files, tmp_path, job):
    featurize = {"data": data, "backbone": "stain-texture", "patch": [16, 32]}
    arguments = featurize if job == "featurize" else {}
    (alone,) = run(job, tmp_path / "alone", **arguments)
    runs = run(job, tmp_path / "store", copies=4, **arguments)
    assert [one.status for one in runs] == [0] * 4, [one.errors for one in runs]
    assert sum(one.published for one in runs) == alone.published == 4
    assert files(tmp_path / "store") == files(tmp_path / "alone")
    assert not (tmp_path / "store" / ".staging").exists()


def test_processes_of_which_some_are_killed_leave_no_damage(run, files, tmp_path, small_chunks):
    run("chunks", tmp_path / "alone")
    for i in range(5):
        store = tmp_path / f"store-{i}"
        die_at = int(np.random.default_rng().integers(1, 200))
        run("chunks", store, copies=3, die_at=die_at)
        runs = run("chunks", store, copies=2)
        assert [one.status for one in runs] == [0, 0], [one.errors for one in runs]
        assert files(store) == files(tmp_path / "alone")
        assert not EmbeddingStore(store).verify().damaged
