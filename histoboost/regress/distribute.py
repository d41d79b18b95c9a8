"""Stage 2 on a Dask cluster: a unit is a fold with a seed, or some cell types of one.

What cell types have in common (reading the features, components, kernel ridge, binning) a worker
does once and holds on to; the unit that remains is the trees of its types. The code is the same as
on one machine, and so are the results.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.on_worker import shared_location, store_on_worker
from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import run_units, worker_name, worker_threads
from histoboost.errors import BadInput, HistoboostWarning, pass_on, warnings_kept
from histoboost.regress.budget import can_fork
from histoboost.regress.features import FeatureMatrix, Layout, assemble
from histoboost.regress.fitting import (
    BegunPredictor,
    Predictor,
    begin_predictor,
    common_share,
    fit_predictor,
)
from histoboost.regress.folds import Fold
from histoboost.regress.heads.base import TypeModels
from histoboost.regress.scores import FoldResult, score_held_out
from histoboost.regress.setup import Setup
from histoboost.regress.smoothing import smooth

if TYPE_CHECKING:
    from distributed import Client

Array = NDArray[np.float64]
Types = tuple[int, ...]

# Shown in the log of the worker, which Dask has set up for the names below "distributed".
_log = logging.getLogger("distributed.histoboost")
# Threads of one worker share what it holds; they would only take cores from each other.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Data:
    """What a worker has to read.

    Attributes
    ----------
    location : str
        The store.
    slides : tuple of str
        In the order that folds count them in.
    features, standardize : str
        See `Setup`.
    digest : str
        Of the caller's layout: a store that has changed since is read again, or refused.
    """

    location: str
    slides: tuple[str, ...]
    features: str
    standardize: str
    digest: str


@dataclass(frozen=True, eq=False)
class Part:
    """What a unit says of some cell types of a fold.

    Attributes
    ----------
    predictions : list of ndarray of shape (N, types)
        One for each held-out slide, not smoothed.
    fit_seconds, predict_seconds : float
    warnings : tuple of str
        For the caller's terminal.
    """

    predictions: list[Array]
    fit_seconds: float
    predict_seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ModelPart:
    """The first cell types' predictor, with all that types have in common; texts of others."""

    predictor: Predictor | None
    texts: list[str]
    warnings: tuple[str, ...]


def folds_on_cluster(
    client: Client,
    store: EmbeddingStore,
    layout: Layout,
    wanted: Sequence[tuple[Fold, Setup]],
    description: str,
) -> Iterator[tuple[int, FoldResult]]:
    """Score folds on the workers of `client`.

    Yields
    ------
    place : int
        Index into `wanted`, in the order in which they are done: a fold is once all of its parts
        are.
    FoldResult
    """
    if not wanted:
        return
    # Folds with the most training slides take longest. The parts of a fold follow each other, so
    # that few workers have to begin it.
    order = sorted(range(len(wanted)), key=lambda at: -len(wanted[at][0].training))
    divided = divide(client, layout, wanted[0][1], len(wanted))
    parts = dict(zip(order, divided, strict=True))
    units = [(at, part) for at in order for part in range(len(parts[at]))]
    data = data_of(store, layout, wanted[0][1])
    done = run_units(
        client,
        score_unit,
        [(data, *wanted[at], parts[at][part]) for at, part in units],
        names=[_name(layout, wanted[at][0], parts[at], part) for at, part in units],
        description=description,
        unit="folds" if len(units) == len(wanted) else "parts of folds",
    )
    waiting: dict[int, dict[int, Part]] = {}
    for place, result in done:
        at, part = units[place]
        pass_on(result.warnings)
        there = waiting.setdefault(at, {})
        there[part] = result
        if len(there) == len(parts[at]):
            del waiting[at]
            yield at, _joined(layout, *wanted[at], [there[i] for i in range(len(parts[at]))])


def fit_on_cluster(
    client: Client, store: EmbeddingStore, layout: Layout, setup: Setup
) -> Predictor:
    """Train on all slides of `layout` on the workers of `client`."""
    everything = Fold((), tuple(range(len(layout.slides))))
    [parts] = divide(client, layout, setup, 1)
    data = data_of(store, layout, setup)
    done = run_units(
        client,
        model_unit,
        [(data, everything, setup, types) for types in parts],
        names=[_name(layout, everything, parts, part) for part in range(len(parts))],
        description="train",
        unit="models" if len(parts) == 1 else "parts of the model",
    )
    found = dict(done)
    for part in found.values():
        pass_on(part.warnings)
    predictor = found[0].predictor
    assert predictor is not None  # the first part has it
    if len(parts) == 1:
        return predictor
    fitted = cast(TypeModels, predictor.fitted)
    others = [text for part in range(1, len(parts)) for text in found[part].texts]
    return replace(predictor, fitted=fitted.completed([*fitted.texts, *others]))


def divide(client: Client, layout: Layout, setup: Setup, folds: int) -> list[list[Types]]:
    """The cell types of every unit of every fold, for the workers that are there now.

    Every worker has whole folds, as long as there is one for each; the types of those that are
    left over are divided.
    """
    types = len(layout.spots[0].cell_types)
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    left_over = folds % max(workers, 1)
    parts = parts_of_each(workers, left_over, types, common_share(setup)) if left_over else 1
    whole = [tuple(range(types))]
    divided = [tuple(map(int, part)) for part in np.array_split(np.arange(types), parts)]
    return [whole] * (folds - left_over) + [divided] * left_over


def parts_of_each(workers: int, folds: int, types: int, common: float) -> int:
    """Into how many parts to divide the cell types of each of a few folds.

    Workers take units in rounds, and a part costs what types have in common besides its own
    share of the rest: the number of parts with the least of both, the smaller of two that tie.

    Parameters
    ----------
    workers, folds, types : int
        How many there are.
    common : float
        Share of a training that types have in common; 1 where it cannot be divided.
    """

    def cost(parts: int) -> float:
        rounds = math.ceil(folds * parts / workers)
        return round(rounds * (common + (1 - common) / parts), 9)

    return min(range(1, types + 1), key=cost) if common < 1 else 1


def data_of(store: EmbeddingStore, layout: Layout, setup: Setup) -> Data:
    """What workers read to have the matrix of `layout`."""
    return Data(
        shared_location(store), layout.slides, layout.features, setup.standardize, layout.digest
    )


def score_unit(data: Data, fold: Fold, setup: Setup, types: Types) -> Part:
    """Train some cell types of a fold and predict its held-out slides; what a worker runs."""
    with _one_at_a_time, warnings_kept() as said:
        matrix = _held.matrix(data)
        start = time.perf_counter()
        predictor = _trained(data, fold, setup, types)
        fitted = time.perf_counter()
        predictions = [predictor.unsmoothed(matrix.block(slide)) for slide in fold.held_out]
        predicted = time.perf_counter()
    return Part(predictions, fitted - start, predicted - fitted, tuple(said))


def model_unit(data: Data, fold: Fold, setup: Setup, types: Types) -> ModelPart:
    """Train some cell types; what a worker runs."""
    with _one_at_a_time, warnings_kept() as said:
        predictor = _trained(data, fold, setup, types)
    if types[0] == 0:
        return ModelPart(predictor, [], tuple(said))
    return ModelPart(None, cast(TypeModels, predictor.fitted).texts, tuple(said))


def _trained(data: Data, fold: Fold, setup: Setup, types: Types) -> Predictor:
    _log.info("training on %d slides, cell types %s", len(fold.training), types)
    if common_share(setup) < 1:
        return _held.begun(data, fold, setup).grow(types)
    return fit_predictor(_held.matrix(data), fold.training, setup, _threads())


class _Held:
    """What a worker keeps between units: one matrix, and what types share of one training.

    The old is let go before the new is made: a worker need not have memory for both.
    """

    def __init__(self) -> None:
        self._data: Data | None = None
        self._matrix: FeatureMatrix | None = None
        self._training: tuple[Data, Fold, Setup] | None = None
        self._begun: BegunPredictor | None = None

    def matrix(self, data: Data) -> FeatureMatrix:
        """The features.

        Raises
        ------
        HistoboostError
            If the worker sees no store, or another than the caller does.
        """
        if self._matrix is None or self._data != data:
            self._matrix = self._begun = None  # the latter holds views of the former
            store = store_on_worker(data.location)
            matrix = assemble(store, data.slides, data.features, data.standardize)
            if matrix.layout.digest != data.digest:
                raise BadInput(
                    f"worker {worker_name()}: the store {data.location} holds other embeddings or "
                    "labels there than here; wait until what was written has arrived, then run "
                    "the same command again"
                )
            self._matrix, self._data = matrix, data
            _log.info("read features %s of %d slides", data.features, len(data.slides))
        return self._matrix

    def begun(self, data: Data, fold: Fold, setup: Setup) -> BegunPredictor:
        """What types have in common of the training slides of `fold`."""
        matrix = self.matrix(data)
        if self._begun is None or self._training != (data, fold, setup):
            self._begun = None
            self._begun = begin_predictor(matrix, fold.training, setup, _threads())
            self._training = (data, fold, setup)
            _log.info("began training on slides %s, seed %d", fold.training, setup.seed)
        return self._begun


_held = _Held()


def _threads() -> int:
    threads = worker_threads()
    if threads > 1 and not can_fork():
        warnings.warn(
            f"workers of {threads} threads train on one core each, because Dask's nanny does not "
            "let them start processes; set DASK_DISTRIBUTED__WORKER__DAEMON=False where workers "
            "are started",
            HistoboostWarning,
            stacklevel=2,
        )
    return threads


def _joined(layout: Layout, fold: Fold, setup: Setup, parts: Sequence[Part]) -> FoldResult:
    """Put the cell types of a fold side by side, and score them here."""
    predictions = {}
    for place, slide in enumerate(fold.held_out):
        table = layout.spots[slide]
        together = np.concatenate([part.predictions[place] for part in parts], axis=1)
        predictions[table.slide] = smooth(together, table.xy, setup.smooth)
    return score_held_out(
        layout,
        fold,
        setup,
        predictions,
        fit_seconds=sum(part.fit_seconds for part in parts),
        predict_seconds=sum(part.predict_seconds for part in parts),
    )


def _name(layout: Layout, fold: Fold, parts: Sequence[Types], part: int) -> str:
    """What a unit is called in an error."""
    held_out = fold.group or ", ".join(layout.slides[slide] for slide in fold.held_out)
    name = f"fold that holds out {held_out}" if held_out else "training"
    if len(parts) == 1:
        return name
    first, last = (layout.spots[0].cell_types[parts[part][i]] for i in (0, -1))
    return f"{name}, cell types {first} to {last}"
