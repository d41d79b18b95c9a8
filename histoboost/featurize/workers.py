"""Embed slides on several GPUs of one machine, or on the workers of a Dask cluster.

All write into the same store without locks: the first to finish a slide or an embedding publishes
it.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from histoboost.cache.on_worker import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_threads
from histoboost.errors import BadInput, warnings_kept
from histoboost.featurize.opened_slide import QueuedSlide
from histoboost.featurize.request import Request
from histoboost.featurize.run import Run
from histoboost.featurize.summary import FeaturizeSummary
from histoboost.progress import progress

if TYPE_CHECKING:
    from distributed import Client

_gpu_run: Run | None = None  # of this process

# A worker may have several threads; a backbone serves one at a time, with all cores.
_one_at_a_time = threading.Lock()


def embed_on_gpus(
    devices: Sequence[torch.device], run: Run, queue: Sequence[QueuedSlide], location: str
) -> Iterator[FeaturizeSummary]:
    """Embed slides in one process per device; yields a summary per slide."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free: Any = context.Queue()
    for device in devices:
        free.put(str(device))
    pool = ProcessPoolExecutor(len(devices), context, _start_process, (free, run))
    try:
        tasks = [pool.submit(_embed_on_gpu, queued, location) for queued in queue]
        with progress("embedding", run.request.patches, "patches") as advance:
            for task in as_completed(tasks):
                done = task.result()
                advance(done.computed)
                advance(done.kept, kept=True)
                yield done
    except BrokenProcessPool as error:
        raise BadInput(
            "a process of a device was killed (out of memory?); run the same command again to "
            "resume, with --device cuda:0 if it happens again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_process(free: Any, run: Run) -> None:
    global _gpu_run
    _gpu_run = run.on(torch.device(free.get()))


def _embed_on_gpu(queued: QueuedSlide, location: str) -> FeaturizeSummary:
    assert _gpu_run is not None
    return _embed_one(_gpu_run, queued, EmbeddingStore(location))


def embed_on_cluster(
    client: Client, request: Request, queue: Sequence[QueuedSlide], store: EmbeddingStore
) -> Iterator[FeaturizeSummary]:
    """Embed slides on the workers of `client`, the largest first; yields a summary per slide.

    Workers must reach the store and the slides under the same paths as the caller.
    """
    store.create()  # workers refuse a location without a store: they may not see ours
    largest_first = sorted(queue, key=lambda queued: queued.spots, reverse=True)
    location = shared_location(store)
    done = run_units(
        client,
        embed_on_worker,
        [(queued, location, request) for queued in largest_first],
        names=[f"slide {queued.name}" for queued in largest_first],
        description="embedding",
        unit="slides",
        gpu=request.device.startswith("cuda"),
    )
    for _, part in done:
        yield part


def embed_on_worker(queued: QueuedSlide, location: str, request: Request) -> FeaturizeSummary:
    """Embed one slide on a worker."""
    store = store_on_worker(location)
    torch.set_num_threads(worker_threads())
    with _one_at_a_time:
        done = _embed_one(_worker_run(request), queued, store)
    if done.device:
        done.device += " of Dask workers"
    return done


@lru_cache(maxsize=1)
def _worker_run(request: Request) -> Run:
    """Keep the backbone and its engine for the worker's next slide."""
    return Run.load(request)


def _embed_one(run: Run, queued: QueuedSlide, store: EmbeddingStore) -> FeaturizeSummary:
    with warnings_kept() as heard:
        done = run.embed([queued], store, quiet=True)
    done.heard = heard
    return done
