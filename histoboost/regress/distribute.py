"""Stage 2 on a Dask cluster, with the same results: one unit per fold and seed, or training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histoboost.cache.on_worker import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_name, worker_threads
from histoboost.errors import BadInput, pass_on, warn, warnings_kept
from histoboost.regress.budget import can_fork
from histoboost.regress.features import FeatureMatrix, Features
from histoboost.regress.fitting import Predictor, features_for, fit_predictor, reads_rows
from histoboost.regress.folds import Fold
from histoboost.regress.layout import Layout, describe
from histoboost.regress.scores import FoldResult, run_fold
from histoboost.regress.setup import Setup

if TYPE_CHECKING:
    from distributed import Client

# Dask shows loggers below "distributed" in the log of the worker.
_log = logging.getLogger("distributed.histoboost")
# Threads of one worker share the matrix and would compete for its cores.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Source:
    """Slides of a store in the caller's order, and the digest of the caller's layout."""

    location: str
    slides: tuple[str, ...]
    features: str
    standardize: str
    digest: str


@dataclass(frozen=True)
class Unit:
    """Train on the training slides of `fold`, and score any held-out ones."""

    source: Source
    fold: Fold
    setup: Setup


def folds_on_cluster(
    client: Client,
    store: EmbeddingStore,
    layout: Layout,
    work: Sequence[tuple[Fold, Setup]],
    description: str,
) -> Iterator[tuple[int, FoldResult]]:
    """Score folds on the workers of `client`; yield indices into `work` and results when done."""
    # Folds with the most training slides take longest.
    order = sorted(range(len(work)), key=lambda at: -len(work[at][0].training))
    units = [(Unit(source_of(store, layout, work[at][1]), *work[at]),) for at in order]
    names = [
        f"fold that holds out {fold.group or ', '.join(layout.slides[i] for i in fold.held_out)}"
        for fold, _ in (work[at] for at in order)
    ]
    done = run_units(client, score_unit, units, names=names, description=description, unit="folds")
    for place, (result, heard) in done:
        pass_on(heard)
        yield order[place], result


def fit_on_cluster(
    client: Client, store: EmbeddingStore, layout: Layout, setup: Setup
) -> Predictor:
    """Train on all slides of `layout` on a worker of `client`."""
    everything = Fold((), tuple(range(len(layout.slides))))
    unit = Unit(source_of(store, layout, setup), everything, setup)
    [(_, (predictor, heard))] = run_units(
        client, train_unit, [(unit,)], names=["training"], description="train", unit="models"
    )
    pass_on(heard)
    return predictor


def source_of(store: EmbeddingStore, layout: Layout, setup: Setup) -> Source:
    """Describe the matrix of `layout` for workers."""
    location, standardize = shared_location(store), setup.standardize
    return Source(location, layout.slides, layout.features, standardize, layout.digest)


def score_unit(unit: Unit) -> tuple[FoldResult, tuple[str, ...]]:
    """Score a fold on a worker; return the result and warnings."""
    with _one_at_a_time, warnings_kept() as heard:
        _log.info("fold that holds out %s, seed %d", unit.fold.held_out, unit.setup.seed)
        result = run_fold(_held.matrix(unit), unit.fold, unit.setup, _threads())
    return result, tuple(heard)


def train_unit(unit: Unit) -> tuple[Predictor, tuple[str, ...]]:
    """Train a model on a worker; return it and warnings."""
    with _one_at_a_time, warnings_kept() as heard:
        matrix = _held.matrix(unit)
        predictor = fit_predictor(matrix, unit.fold.training, unit.setup, _threads())
    return predictor, tuple(heard)


class _Held:
    """The matrix that a worker keeps between units, freed before the next one is read."""

    _source: Source | None = None
    _matrix: Features | None = None

    def matrix(self, unit: Unit) -> Features:
        """Features of a unit; refuse a store with other content than the caller's."""
        source, held = unit.source, self._matrix
        if (
            held is not None
            and self._source == source
            and (isinstance(held, FeatureMatrix) or reads_rows(held.layout, unit.setup))
        ):
            return held
        self._matrix = held = None
        store = store_on_worker(source.location)
        spots = [store.spots(slide) for slide in source.slides]
        layout = describe(store, spots, source.features)
        if layout.digest != source.digest:
            raise BadInput(
                f"worker {worker_name()}: the store {source.location} holds other embeddings "
                "or labels there than here; wait until what was written has arrived, then run "
                "the same command again"
            )
        self._matrix, self._source = features_for(store, layout, unit.setup), source
        _log.info("read features %s of %d slides", source.features, len(source.slides))
        return self._matrix


_held = _Held()


def _threads() -> int:
    threads = worker_threads()
    if threads > 1 and not can_fork():
        warn(
            f"workers of {threads} threads train on one core each, because Dask's nanny does not "
            "let them start processes; set DASK_DISTRIBUTED__WORKER__DAEMON=False where workers "
            "are started"
        )
    return threads
