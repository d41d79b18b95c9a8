"""How many threads torch may use."""

from __future__ import annotations

import warnings

import joblib
import torch

from histoboost.errors import HistoboostWarning


def limit_threads(threads: int | None) -> None:
    """Let torch use `threads` threads, or all cores that this process may use.

    Cores that affinity or a cgroup withholds do not count; more threads than cores only wait.
    """
    cores = int(joblib.cpu_count())
    if threads is not None and threads > cores:
        warnings.warn(
            f"threads: {threads} asked for, but this process may use {cores} cores; using {cores}",
            HistoboostWarning,
            stacklevel=2,
        )
    torch.set_num_threads(min(threads or cores, cores))
