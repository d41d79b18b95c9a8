"""How many processes and threads this run may use."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from dataclasses import dataclass

import joblib

from histoboost.errors import HistoboostWarning


@dataclass(frozen=True)
class Budget:
    """Processes side by side, and threads in each; their product never exceeds `cores`.

    Attributes
    ----------
    cores : int
        Cores that this process may use (affinity and cgroup limits count).
    jobs : int
        Processes side by side.
    threads : int
        Threads in each of them.
    """

    cores: int
    jobs: int
    threads: int

    def __str__(self) -> str:
        return f"{self.cores} cores: {self.jobs} jobs x {self.threads} threads"


def plan(tasks: int, jobs: int | None = None) -> Budget:
    """Divide the cores among `tasks` equal tasks.

    Parameters
    ----------
    tasks : int
        Tasks that could run side by side.
    jobs : int, optional
        Most processes side by side; as many as there are cores by default.

    Returns
    -------
    Budget
        One process with all threads where this process cannot fork safely.
    """
    cores = int(joblib.cpu_count())
    if jobs is not None and jobs > cores:
        warnings.warn(
            f"jobs: {jobs} asked for, but this process may use {cores} cores; using {cores}",
            HistoboostWarning,
            stacklevel=3,
        )
    wanted = min(cores, cores if jobs is None else jobs)
    if not can_fork():
        return Budget(cores, 1, wanted)
    side_by_side = max(1, min(wanted, tasks))
    # Asked for fewer jobs than cores, the user wants the rest of the machine for something else.
    return Budget(cores, side_by_side, max(1, wanted // side_by_side))


def can_fork() -> bool:
    """Whether worker processes may be forked, so that they share the binned data.

    macOS offers fork, but its system libraries do not survive it; a daemonic process (a worker
    of a pool) may not have children.
    """
    if sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods():
        return False
    return not multiprocessing.current_process().daemon
