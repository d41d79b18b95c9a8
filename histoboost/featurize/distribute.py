"""Stage 1 on a Dask cluster: a unit is a slide, and runs the same code as on one machine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from histoboost.cache.remote import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_name, worker_threads
from histoboost.errors import HistoboostError
from histoboost.featurize.align import Alignment
from histoboost.featurize.run import Request, Run
from histoboost.featurize.slide import Slide
from histoboost.featurize.summary import FeaturizeSummary

if TYPE_CHECKING:
    from distributed import Client


# A worker may have several threads; a backbone serves one at a time, with all of its cores.
_one_at_a_time = threading.Lock()


def embed_on_cluster(
    client: Client,
    request: Request,
    slides: Sequence[Slide],
    placed: Mapping[str, Alignment],
    store: EmbeddingStore,
    summary: FeaturizeSummary,
) -> None:
    """Embed `slides` on the workers of `client`, the largest first; adds to `summary`.

    The spots of every slide are in the store already. Workers must reach the store and the slides
    under the same paths as the caller.
    """
    largest_first = sorted(slides, key=lambda slide: len(slide.xy), reverse=True)
    location = shared_location(store)
    done = run_units(
        client,
        embed_unit,
        [(slide, placed[slide.name], location, request) for slide in largest_first],
        names=[f"slide {slide.name}" for slide in largest_first],
        description="embedding",
        unit="slides",
        gpu=request.device.startswith("cuda"),
    )
    for _, part in done:
        summary.computed += part.computed
        summary.kept += part.kept
        for step, seconds in part.seconds.items():
            summary.seconds[step] = summary.seconds.get(step, 0.0) + seconds
        if part.engine:
            summary.engine, summary.device = part.engine, f"{part.device}, Dask workers"


def on_every_machine(weights: str) -> str:
    """The same weights, named so that another machine's working directory does not matter."""
    return weights if weights in ("pretrained", "random") else str(Path(weights).absolute())


def embed_unit(
    slide: Slide, alignment: Alignment, location: str, request: Request
) -> FeaturizeSummary:
    """Embed one slide; this is what a worker runs."""
    import torch

    store = store_on_worker(location)
    if slide.name not in store.slides():
        raise HistoboostError(f"worker {worker_name()}: the store {location} lacks this slide")
    torch.set_num_threads(worker_threads())
    summary = FeaturizeSummary([slide.name], [name for _, name in request.jobs])
    with _one_at_a_time:
        # The run keeps the backbone and its engine for the worker's next slide.
        _run(request).embed([slide], {slide.name: alignment}, store, summary)
    return summary


@lru_cache(maxsize=1)
def _run(request: Request) -> Run:
    return request.run()
