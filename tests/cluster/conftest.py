"""A real scheduler and two real worker processes on loopback."""

from __future__ import annotations

import os
import re
import shutil
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
        self,
        name: str,
        arguments: list[str],
        *,
        inside: list[str] | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen(
            [
                *(inside or ()),
                *(sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:], *LOCAL),
            ],
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

    def start_worker(
        self, name: str, *, without: Path | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """A worker of one thread; for one that runs `without` a folder, another is mounted there,
        empty, as on a machine that lacks the shared file system.
        """
        inside = None
        if without is not None:
            hide = 'mount -t tmpfs none "$0" && exec "$@"'
            inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", hide, str(without)]
            if shutil.which("unshare") is None or subprocess.call([*inside[:3], "true"]):
                pytest.skip("this system lets no process have mounts of its own")
        flags = ["--nthreads", "1", "--no-nanny", "--name", name]
        command = ["dask_worker", self.address, *flags]
        return self._start(name, command, inside=inside, **environment)

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many have reached the scheduler."""
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=START_TIMEOUT_S)

    def log(self, name: str) -> str:
        """What a worker has printed so far."""
        return (self.folder / f"{name}.log").read_text()

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
