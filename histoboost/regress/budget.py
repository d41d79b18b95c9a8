"""How many processes and threads this run may use."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import joblib
from threadpoolctl import ThreadpoolController

from histoboost.errors import HistoboostWarning


def processes(tasks: int, jobs: int | None = None) -> int:
    """How many processes of one thread to run side by side for equal tasks, `jobs` at most.

    Growing small trees with several threads waits at barriers more than it gains, and many times
    as long where another program wants the cores. One process where this one cannot fork.
    """
    cores = allowed_cores("jobs", jobs)
    return max(1, min(cores, tasks)) if can_fork() else 1


def allowed_cores(option: str, wanted: int | None) -> int:
    """How many cores to use: as many as wanted (None: all), never more than this process may use.

    Cores that affinity or a cgroup withholds do not count; what runs beyond them only waits.
    `option` is what the warning calls the wish, such as ``"jobs"``.
    """
    most = int(joblib.cpu_count())
    if wanted is not None and wanted > most:
        warnings.warn(
            f"{option}: {wanted} requested, but this process may use {most} cores; using {most}",
            HistoboostWarning,
            stacklevel=4,
        )
    return cores(wanted)


def cores(wanted: int | None) -> int:
    """`allowed_cores` without a word."""
    most = int(joblib.cpu_count())
    return most if wanted is None else max(1, min(wanted, most))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep matrix products to one thread, so that the number of cores changes no digit.

    BLAS libraries add up in another order with another number of threads, and they count the cores
    of the machine, not those that a container may use.
    """
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


def can_fork() -> bool:
    """Whether worker processes may be forked, so that they share the binned data.

    macOS offers fork, but its system libraries do not survive it; a daemonic process (a worker
    of a pool) may not have children.
    """
    if sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods():
        return False
    return not multiprocessing.current_process().daemon
