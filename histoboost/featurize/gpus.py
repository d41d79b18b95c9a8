"""Several devices of one machine: one process each, a slide at a time.

Processes write into the same store without locks: each slide and embedding is published once,
whoever gets there first. A slide is a unit of work, so that a device that is done takes the next.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warnings_kept
from histoboost.featurize.run import QueuedSlide, Run
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import progress

_run: Run | None = None  # of this process, on its own device


def embed_on_gpus(
    devices: Sequence[torch.device], run: Run, queue: Sequence[QueuedSlide], location: str
) -> Iterator[FeaturizeSummary]:
    """Embed slides on several devices side by side.

    Parameters
    ----------
    devices : sequence of torch.device
        One process is started for each.
    run : Run
        What to compute; its own device is not used.
    queue : sequence of QueuedSlide
        What to embed.
    location : str
        Of the store.

    Yields
    ------
    FeaturizeSummary
        What was done for one slide.

    Raises
    ------
    HistoboostError
        What a process raised, or that one of them was killed.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free: Any = context.Queue()
    for device in devices:
        free.put(str(device))
    total = run.sizes * sum(len(queued.slide.xy) for queued in queue)
    pool = ProcessPoolExecutor(len(devices), context, _begin, (free, run))
    try:
        tasks = [pool.submit(_embed, queued, location) for queued in queue]
        with progress("embedding", total, "patches") as advance:
            for task in as_completed(tasks):
                done = task.result()
                advance(done.computed)
                advance(done.kept, kept=True)
                yield done
    except BrokenProcessPool as error:
        raise BadInput(
            "a process of a device was killed (out of memory?); run the same command again to go "
            "on, with --device cuda:0 if it happens again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(free: Any, run: Run) -> None:
    global _run
    _run = run.on(torch.device(free.get()))


def _embed(queued: QueuedSlide, location: str) -> FeaturizeSummary:
    assert _run is not None
    with warnings_kept() as heard:
        done = _run.embed([queued], EmbeddingStore(location), quiet=True)
    done.heard = heard
    return done
