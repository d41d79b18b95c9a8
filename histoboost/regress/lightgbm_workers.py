"""The workers that train one LightGBM model per target on one binned dataset.

Binning a few thousand dense columns costs as much as growing hundreds of small trees, so it is
done once and each target only sets its label. Workers are forked after the binning: they share the
binned pages with their parent and copy only what `set_label` writes. Threads could not share them,
because LightGBM's objective keeps a pointer to the dataset's one label array.
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

#: Linux: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1

Blocks = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Task:
    """What the workers share; nothing in it is pickled where they are forked.

    `data` are the binned features of the training spots, with weights, `targets` (N, T), and
    `params` LightGBM's parameters without seed and threads; there is one of `seeds` for each
    target. `stop_on`, binned features and targets (M, T) of held-out spots, decides when to stop:
    after `patience` of at most `rounds` rounds without improvement there.
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
    """Bin the rows of `blocks`, which LightGBM reads in place; `reference` lends its bins."""
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
    """The model of target `index` in LightGBM's text format, which keeps every number exactly.

    It equals that of ``lightgbm.train`` on a dataset of its own, to the last bit.
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
    """Make a forked worker safe: one thread, and no life beyond its parent's.

    The OpenMP threads of the parent do not survive the fork, and a parallel region that waits for
    them hangs. `num_threads` does not reach `set_label`, hence LightGBM's global limit.
    """
    import lightgbm as lgb

    library: Any = lgb.basic
    library._LIB.LGBM_SetMaxThreads(ctypes.c_int(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers, in one piece
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _worker(index: int) -> str:
    assert _task is not None  # inherited through fork
    return train_one(_task, index)


def train_all(task: Task, processes: int) -> list[str]:
    """Train the models of all targets, so many side by side.

    Raises
    ------
    HistoboostError
        If a worker was killed from outside.
    """
    global _task
    targets = range(task.targets.shape[1])
    if processes == 1 or len(targets) == 1:
        return [train_one(task, index) for index in targets]
    fork = multiprocessing.get_context("fork")
    _task = task
    try:
        # Python warns of forking beside other threads; the workers touch nothing of theirs.
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
