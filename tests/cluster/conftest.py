"""A real scheduler and two real worker processes on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'histoboost[dask]'")

LOCAL = ["--no-dashboard", "--host", "127.0.0.1"]
START_TIMEOUT_S = 120


@dataclass
class Cluster:
    """Processes of one Dask cluster."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def _start(
        self, name: str, arguments: list[str], **environment: str
    ) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:], *LOCAL],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> None:
        self._start("scheduler", ["dask_scheduler", "--port", "0"])
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = re.search(
                r"tcp://127\.0\.0\.1:\d+", (self.folder / "scheduler.log").read_text()
            )
            if found:
                self.address = found[0]
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "scheduler.log").read_text())

    def start_worker(self, name: str, **environment: str) -> subprocess.Popen[bytes]:
        flags = ["--nthreads", "1", "--no-nanny", "--name", name]
        return self._start(name, ["dask_worker", self.address, *flags], **environment)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers yet."""
    made = Cluster(tmp_path / "cluster")
    try:
        made.start_scheduler()
        yield made
    finally:
        made.stop()
