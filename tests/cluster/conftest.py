"""A real scheduler and real worker processes on loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from histoboost.cli import main

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'histoboost[dask]'")

LOCAL = ["--no-dashboard", "--host", "127.0.0.1"]
START_TIMEOUT_S = 120


class Cluster:
    """Processes of a Dask cluster, with one log each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", [], "dask_scheduler", "--port", "0")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"tcp://127\.0\.0\.1:\d+", self.log("scheduler"))):
            if time.monotonic() > deadline:
                self.stop()
                raise TimeoutError(self.log("scheduler"))
            time.sleep(0.1)
        self.address = found[0]

    def _start(
        self, name: str, inside: list[str], module: str, *arguments: str, **environment: str
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", f"distributed.cli.{module}", *arguments, *LOCAL],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        self.processes.append(process)
        return process

    def start_worker(
        self, name: str, *, without: Path | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker with one thread; `without` is a folder that it sees empty, as on a
        machine without the shared file system.
        """
        inside: list[str] = []
        if without is not None:
            hide = 'mount -t tmpfs none "$0" && exec "$@"'
            inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", hide, str(without)]
            if shutil.which("unshare") is None or subprocess.call([*inside[:3], "true"]):
                pytest.skip("processes cannot have mounts of their own here")
        flags = ["--nthreads", "1", "--no-nanny", "--name", name]
        return self._start(name, inside, "dask_worker", self.address, *flags, **environment)

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers have connected."""
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=START_TIMEOUT_S)

    def log(self, name: str) -> str:
        """Output of a process so far."""
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers yet."""
    made = Cluster(tmp_path / "cluster")
    yield made
    made.stop()


@pytest.fixture
def error_of() -> Callable[[list[str]], str]:
    """Run a command that must fail with a single error line; returns the line."""

    def run(command: list[str]) -> str:
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output
        [line] = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
        return line

    return run
