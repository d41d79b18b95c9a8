"""Numbers of processes and threads."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import joblib
from threadpoolctl import ThreadpoolController

from histoboost.errors import warn


def processes(tasks: int, jobs: int | None = None) -> int:
    """Number of parallel single-threaded processes for equal tasks, at most `jobs`.

    Multithreaded growing of small trees is slower: threads mostly wait at barriers. One process if
    this one cannot fork.
    """
    cores = allowed_cores("jobs", jobs)
    return max(1, min(cores, tasks)) if can_fork() else 1


def allowed_cores(option: str, wanted: int | None) -> int:
    """Number of cores to use, see `cores`; warn if `option` requests more than are available."""
    available = int(joblib.cpu_count())
    if wanted is not None and wanted > available:
        warn(
            f"{option}: {wanted} requested, but this process may use {available} cores; using "
            f"{available}"
        )
    return cores(wanted)


def cores(wanted: int | None) -> int:
    """Number of cores to use: as many as wanted (None: all) and available (affinity, cgroup)."""
    available = int(joblib.cpu_count())
    return available if wanted is None else max(1, min(wanted, available))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: the order of its sums, and so the last digits, depend on it."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


def can_fork() -> bool:
    """Whether worker processes can be forked, to share the binned data.

    System libraries of macOS do not survive a fork; a daemonic process (a pool worker) may not have
    children.
    """
    if sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods():
        return False
    return not multiprocessing.current_process().daemon
