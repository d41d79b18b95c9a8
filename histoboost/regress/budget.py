"""How many processes and threads this run may use."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import joblib
from threadpoolctl import ThreadpoolController

from histoboost.errors import HistoboostWarning


@dataclass(frozen=True)
class Budget:
    """Processes side by side, and threads in each; their product never exceeds `cores`.

    Attributes
    ----------
    cores : int
        Cores that this run may use (affinity, cgroup limits and ``--jobs`` count).
    jobs : int
        Processes side by side.
    threads : int
        Threads in each of them.
    """

    cores: int
    jobs: int
    threads: int

    def __str__(self) -> str:
        return f"{self.jobs} jobs x {self.threads} threads on {self.cores} cores"


def plan(tasks: int, jobs: int | None = None) -> Budget:
    """Divide the cores among `tasks` equal tasks.

    Parameters
    ----------
    tasks : int
        Tasks that could run side by side.
    jobs : int, optional
        Cores to use at most; all that this process may use by default.

    Returns
    -------
    Budget
        Processes of one thread each: growing small trees with several threads waits at barriers
        more than it gains, and many times as long where another program wants the cores. One
        process where this one cannot fork.
    """
    cores = allowed_cores("jobs", jobs)
    return Budget(cores, max(1, min(cores, tasks)) if can_fork() else 1, 1)


def allowed_cores(option: str, asked: int | None) -> int:
    """How many cores to use: as asked, but never more than this process may use.

    Cores that affinity or a cgroup withholds do not count; what runs beyond them only waits.

    Parameters
    ----------
    option : str
        What the warning calls the wish, such as ``"jobs"``.
    asked : int or None
        None asks for all; more than there are is answered with a warning.
    """
    cores = int(joblib.cpu_count())
    if asked is not None and asked > cores:
        warnings.warn(
            f"{option}: {asked} asked for, but this process may use {cores} cores; using {cores}",
            HistoboostWarning,
            stacklevel=4,
        )
    return cores if asked is None else max(1, min(asked, cores))


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
