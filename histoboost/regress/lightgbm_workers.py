"""Worker processes that train one LightGBM model per target on one binned dataset.

Binning a few thousand dense columns costs as much as growing hundreds of small trees, so it is
done once, and each target only sets its label. Workers are forked after binning: they share the
binned pages with their parent and copy only what `set_label` writes. Threads cannot share them,
because LightGBM's objective keeps a pointer to the dataset's only label array.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import HistoboostError

if TYPE_CHECKING:
    import lightgbm as lgb

#: Linux: sets the signal that a process receives when its parent dies.
PR_SET_PDEATHSIG = 1

Blocks = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Task:
    """Data that workers share by forking, without pickling.

    `data` are binned features with weights, `targets` (N, T); `params` lack seed and threads, and
    there is one of `seeds` per target. Training stops early after `patience` rounds without
    improvement on `stop_on`, binned features and targets (M, T) of held-out spots.
    """

    data: lgb.Dataset
    targets: NDArray[np.float64]
    params: Mapping[str, Any]
    rounds: int
    seeds: Sequence[int]
    stop_on: tuple[lgb.Dataset, NDArray[np.float64]] | None = None
    patience: int = 0


def bin_features(
    blocks: Blocks,
    params: Mapping[str, Any],
    threads: int,
    weight: NDArray[np.float64] | None = None,
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    """Bin the rows of `blocks`, without copying them, with the bins of `reference` if given."""
    import lightgbm as lgb

    data = lgb.Dataset(
        list(blocks),
        label=np.zeros(sum(map(len, blocks))),
        weight=weight,
        reference=reference,
        params={**params, "num_threads": threads},
        free_raw_data=True,
    )
    return data.construct()


def train_one(task: Task, index: int) -> str:
    """Train the model of target `index`; return LightGBM's text format, which is exact.

    It equals ``lightgbm.train`` on a separate dataset to the last bit.
    """
    import lightgbm as lgb

    params = {**task.params, "seed": task.seeds[index], "num_threads": 1}
    task.data.set_label(task.targets[:, index])
    held_out: list[lgb.Dataset] = []
    callbacks: list[Any] = []
    if task.stop_on is not None:
        data, targets = task.stop_on
        held_out = [data.set_label(targets[:, index])]
        callbacks = [lgb.early_stopping(task.patience, first_metric_only=True, verbose=False)]
    booster = lgb.train(params, task.data, task.rounds, valid_sets=held_out, callbacks=callbacks)
    best = booster.best_iteration
    return str(booster.model_to_string(num_iteration=best if best > 0 else None))


# Read by forked workers; set only while `train_all` runs.
_task: Task | None = None


def _begin_worker() -> None:
    """Limit a forked worker to one thread and the lifetime of its parent.

    The parent's OpenMP threads do not survive the fork, and a parallel region would wait for them
    forever. `num_threads` does not apply to `set_label`, hence LightGBM's global limit.
    """
    import lightgbm as lgb

    library: Any = lgb.basic
    library._LIB.LGBM_SetMaxThreads(ctypes.c_int(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _worker(index: int) -> str:
    assert _task is not None  # inherited through fork
    return train_one(_task, index)


def train_all(task: Task, processes: int) -> list[str]:
    """Train the models of all targets in parallel processes."""
    global _task
    targets = range(task.targets.shape[1])
    if processes == 1 or len(targets) == 1:
        return [train_one(task, index) for index in targets]
    fork = multiprocessing.get_context("fork")
    _task = task
    try:
        # Python warns about forking with other threads; the workers do not touch them.
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            ProcessPoolExecutor(processes, fork, _begin_worker) as pool,
        ):
            return list(pool.map(_worker, targets))
    except BrokenProcessPool as error:
        raise HistoboostError(
            "training: a worker was killed, probably out of memory; use fewer --jobs"
        ) from error
    finally:
        _task = None
