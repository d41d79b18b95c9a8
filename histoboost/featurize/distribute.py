"""Stage 1 on a Dask cluster: a unit is a slide, and runs the same code as on one machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from histoboost.cache.on_worker import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_threads
from histoboost.errors import warnings_kept
from histoboost.featurize.run import QueuedSlide, Request, Run
from histoboost.featurize.summary import FeaturizeSummary

if TYPE_CHECKING:
    from distributed import Client


# A worker may have several threads; a backbone serves one at a time, with all of its cores.
_one_at_a_time = threading.Lock()


def embed_on_cluster(
    client: Client, request: Request, queue: Sequence[QueuedSlide], store: EmbeddingStore
) -> Iterator[FeaturizeSummary]:
    """Embed slides on the workers of `client`, the largest first.

    Workers must reach the store and the slides under the same paths as the caller.

    Yields
    ------
    FeaturizeSummary
        What was done for one slide.
    """
    store.create()  # a worker that finds none cannot see it, and makes no store of its own
    largest_first = sorted(queue, key=lambda queued: len(queued.slide.xy), reverse=True)
    location = shared_location(store)
    done = run_units(
        client,
        embed_unit,
        [(queued, location, request) for queued in largest_first],
        names=[f"slide {queued.slide.name}" for queued in largest_first],
        description="embedding",
        unit="slides",
        gpu=request.device.startswith("cuda"),
    )
    for _, part in done:
        yield part


def on_every_machine(weights: str) -> str:
    """The same weights, named so that another machine's working directory does not matter."""
    return weights if weights in ("pretrained", "random") else str(Path(weights).absolute())


def embed_unit(queued: QueuedSlide, location: str, request: Request) -> FeaturizeSummary:
    """Store the spots and the embeddings of one slide; this is what a worker runs."""
    import torch

    store = store_on_worker(location)
    torch.set_num_threads(worker_threads())
    with _one_at_a_time, warnings_kept() as heard:
        # The run keeps the backbone and its engine for the worker's next slide.
        done = _run(request).embed([queued], store, quiet=True)
    done.heard = heard
    if done.device:
        done.device += " of Dask workers"
    return done


@lru_cache(maxsize=1)
def _run(request: Request) -> Run:
    return request.run()
