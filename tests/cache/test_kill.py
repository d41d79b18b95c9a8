"""After SIGKILL at any moment, the next run completes the store as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@dataclass
class Run:
    """Exit status and logs of one child."""

    status: int
    log: list[str]
    errors: str

    def number(self, word: str) -> int:
        """The number after `word` in the log."""
        return next(int(line.split()[1]) for line in self.log if line.startswith(f"{word} "))

    @property
    def written(self) -> int:
        """Number of durable chunks."""
        return self.log.count("write None")

    @property
    def published(self) -> int:
        """Number of embeddings that this process published."""
        return self.log.count("publish True")


class Server:
    """Run jobs in forked children; see fork_server.py."""

    def __init__(self, scratch: Path) -> None:
        script = Path(__file__).with_name("fork_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._scratch, self._jobs = scratch, 0
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self,
        job: str,
        copies: int = 1,
        kill_after_s: float | None = None,
        die_at: int | None = None,
        **arguments: object,
    ) -> list[Run]:
        self._jobs += 1
        report = self._scratch / f"report-{self._jobs}"
        request = {"job": job, "arguments": arguments, "copies": copies, "die_at": die_at}
        print(json.dumps({**request, "report": str(report)}), file=self._process.stdin, flush=True)
        pids = json.loads(self._process.stdout.readline())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            # The server reaps its children later: the pids are still theirs.
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        statuses = json.loads(self._process.stdout.readline())
        return [
            Run(
                status,
                _lines(Path(f"{report}.{copy}")),
                "\n".join(_lines(Path(f"{report}.{copy}.err"))),
            )
            for copy, status in enumerate(statuses)
        ]

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


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
def test_featurize_killed_at_random_moments_resumes(server, data, files, tmp_path, times):
    arguments = {"data": data, "backbone": "stain-texture", "patch": [16, 32]}
    started = time.monotonic()
    (run,) = server.run("featurize", store=str(tmp_path / "whole"), **arguments)
    duration = time.monotonic() - started
    assert run.status == 0, run.errors
    total, expected = run.written, files(tmp_path / "whole")
    assert total >= 12
    rng = np.random.default_rng()
    killed = 0
    for i in range(times):
        store = tmp_path / f"store-{i}"
        moment = rng.uniform(0, duration)
        (run,) = server.run("featurize", store=str(store), kill_after_s=moment, **arguments)
        assert run.status in (0, -signal.SIGKILL), run.errors
        if run.status == 0:  # finished before the moment: try earlier ones
            duration *= 0.7
        killed += run.status != 0
        kept = staged(store) + published(store)
        assert kept >= run.written, f"killed after {moment} s: a chunk was lost"
        (again,) = server.run("featurize", store=str(store), **arguments)
        assert again.status == 0, again.errors
        assert again.written == total - kept, f"killed after {moment} s"
        assert files(store) == expected, f"killed after {moment} s"
        shutil.rmtree(store)
    assert killed


@pytest.mark.parametrize("share", [0.2, pytest.param(1, marks=pytest.mark.soak)])
def test_a_writer_killed_before_any_operation_resumes(server, files, tmp_path, small_chunks, share):
    (run,) = server.run("chunks", store=str(tmp_path / "whole"))
    assert run.status == 0, run.errors
    total, operations = run.written, run.number("operations")
    expected = files(tmp_path / "whole")
    numbers = np.random.default_rng().permutation(operations)[: int(share * operations)] + 1
    for n in map(int, numbers):
        store = tmp_path / f"store-{n}"
        (run,) = server.run("chunks", store=str(store), die_at=n)
        assert run.status == -signal.SIGKILL
        kept = staged(store) + published(store)
        assert kept >= run.written
        if store.exists():
            # All that readers see is intact.
            found = EmbeddingStore(store).verify().damaged
            assert all(d.slide is None and "is missing" in d.reason for d in found), (n, found)
        (again,) = server.run("chunks", store=str(store))
        assert again.status == 0, again.errors
        assert again.written == total - kept
        assert files(store) == expected, n
        assert not EmbeddingStore(store).verify().damaged
        EmbeddingStore(store).gc()
        # The empty folder itself may remain.
        assert not list(store.glob(".staging/*"))
        shutil.rmtree(store)


@pytest.mark.parametrize("job", ["featurize", "chunks"])
def test_four_processes_write_one_store_and_each_unit_is_published_once(
    server, data, files, tmp_path, job
):
    featurize = {"data": data, "backbone": "stain-texture", "patch": [16, 32]}
    arguments = featurize if job == "featurize" else {}
    (alone,) = server.run(job, store=str(tmp_path / "alone"), **arguments)
    runs = server.run(job, copies=4, store=str(tmp_path / "store"), **arguments)
    assert [run.status for run in runs] == [0] * 4, [run.errors for run in runs]
    assert sum(run.published for run in runs) == alone.published == 4
    assert files(tmp_path / "store") == files(tmp_path / "alone")
    assert not (tmp_path / "store" / ".staging").exists()


def test_processes_of_which_some_are_killed_leave_an_intact_store(
    server, files, tmp_path, small_chunks
):
    server.run("chunks", store=str(tmp_path / "alone"))
    for i in range(5):
        store = tmp_path / f"store-{i}"
        die_at = int(np.random.default_rng().integers(1, 200))
        server.run("chunks", copies=3, die_at=die_at, store=str(store))
        runs = server.run("chunks", copies=2, store=str(store))
        assert [run.status for run in runs] == [0, 0], [run.errors for run in runs]
        assert files(store) == files(tmp_path / "alone")
        assert not EmbeddingStore(store).verify().damaged
