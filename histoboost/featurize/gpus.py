"""Several devices of one machine: one process each, a slide at a time.

Processes write into the same store without locks: each slide and embedding is published once,
whoever gets there first. A slide is a unit of work, so that a device that is done takes the next.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize.align import Alignment
from histoboost.featurize.run import Run
from histoboost.featurize.slide import Slide
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import progress

_run: Run | None = None  # of this process, on its own device


def embed_on(
    devices: Sequence[torch.device],
    run: Run,
    slides: Sequence[Slide],
    placed: Mapping[str, Alignment],
    location: str,
    summary: FeaturizeSummary,
) -> None:
    """Embed slides on several devices side by side.

    Parameters
    ----------
    devices : sequence of torch.device
        One process is started for each.
    run : Run
        What to compute; its own device is not used.
    slides : sequence of Slide
        What to embed.
    placed : mapping of str to Alignment
        Where the spots of each slide are.
    location : str
        Of the store.
    summary : FeaturizeSummary
        Told what was done; its seconds are summed over devices.

    Raises
    ------
    HistoboostError
        What a process raised, or that one of them was killed.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free: Any = context.Queue()
    for device in devices:
        free.put(str(device))
    total = run.sizes * sum(len(slide.xy) for slide in slides)
    pool = ProcessPoolExecutor(len(devices), context, _begin, (free, run))
    try:
        tasks = [pool.submit(_embed, slide, placed[slide.name], location) for slide in slides]
        with progress("embedding", total, "patches") as advance:
            for task in as_completed(tasks):
                done = task.result()
                advance(done.computed + done.kept)
                summary.add(done)
    except BrokenProcessPool as error:
        raise HistoboostError(
            "a process of a device was killed (out of memory?); run the same command again to go "
            "on, with --device cuda:0 if it happens again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    summary.device = ", ".join(map(str, devices))


def _begin(free: Any, run: Run) -> None:
    global _run
    _run = run.on(torch.device(free.get()))


def _embed(slide: Slide, alignment: Alignment, location: str) -> FeaturizeSummary:
    assert _run is not None
    done = FeaturizeSummary()
    _run.embed([slide], {slide.name: alignment}, EmbeddingStore(location), done, quiet=True)
    return done
