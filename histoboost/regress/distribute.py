"""Stage 2 on a Dask cluster: a unit is a fold with a seed, and runs the same code as locally."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from histoboost.cache.remote import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_threads
from histoboost.regress.features import FeatureMatrix, assemble

if TYPE_CHECKING:
    from distributed import Client

    from histoboost.regress.crossval import Fold, FoldResult
    from histoboost.regress.fitting import Predictor
    from histoboost.regress.setup import Setup

# Threads of one worker share its features; they would only take cores from each other.
_one_at_a_time = threading.Lock()


def folds_on_cluster(
    client: Client,
    store: EmbeddingStore,
    slides: Sequence[str],
    wanted: Sequence[tuple[Fold, Setup]],
) -> Iterator[tuple[int, FoldResult]]:
    """Score folds on the workers of `client`.

    The features of `slides` are read from the store once by each worker, not sent with a task.

    Yields
    ------
    place : int
        Index into `wanted`, in the order in which they are done.
    FoldResult
    """
    location = shared_location(store)
    # Folds with the most training slides take longest.
    order = sorted(range(len(wanted)), key=lambda at: -len(wanted[at][0].training))
    done = run_units(
        client,
        fold_unit,
        [(location, tuple(slides), *wanted[at]) for at in order],
        names=[
            f"fold that holds out {', '.join(slides[i] for i in wanted[at][0].held_out)}"
            for at in order
        ],
        description="evaluate",
        unit="folds",
    )
    for place, result in done:
        yield order[place], result


def fold_unit(location: str, slides: tuple[str, ...], fold: Fold, setup: Setup) -> FoldResult:
    """Train and score one fold; this is what a worker runs."""
    from histoboost.regress.crossval import run_fold

    with _one_at_a_time:
        matrix = _matrix(location, slides, setup.features, setup.standardize)
        return run_fold(matrix, fold, setup, worker_threads())


def fit_on_cluster(
    client: Client, store: EmbeddingStore, slides: Sequence[str], setup: Setup
) -> Predictor:
    """Train on all of `slides` on one worker of `client`."""
    [(_, predictor)] = run_units(
        client,
        fit_unit,
        [(shared_location(store), tuple(slides), setup)],
        names=["training"],
        description="train",
        unit="models",
    )
    return predictor


def fit_unit(location: str, slides: tuple[str, ...], setup: Setup) -> Predictor:
    """Train on all of `slides`; this is what a worker runs."""
    from histoboost.regress.fitting import fit_predictor

    with _one_at_a_time:
        matrix = _matrix(location, slides, setup.features, setup.standardize)
        return fit_predictor(matrix, range(len(slides)), setup, worker_threads())


@lru_cache(maxsize=1)
def _matrix(
    location: str, slides: tuple[str, ...], features: str, standardize: str
) -> FeatureMatrix:
    return assemble(store_on_worker(location), list(slides), features, standardize)
