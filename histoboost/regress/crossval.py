"""Cross-validation that holds out whole slides or groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput
from histoboost.progress import progress
from histoboost.regress.baselines import warn_of_few_spots
from histoboost.regress.distribute import folds_on_cluster
from histoboost.regress.features import Features
from histoboost.regress.fitting import features_for
from histoboost.regress.fold_cache import FoldCache, fold_key
from histoboost.regress.folds import Fold, make_folds
from histoboost.regress.held_out import warn_where_nothing_was_learned
from histoboost.regress.layout import describe
from histoboost.regress.leakage import warn_of_leakage
from histoboost.regress.scores import CrossValidation, FoldResult, run_fold
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides, open_store
from histoboost.spots import SpotTable

if TYPE_CHECKING:
    from distributed import Client


def cross_validate(
    store: EmbeddingStore | str | Path,
    features: str = Setup.features,
    model: str = Setup.model,
    target: str = Setup.target,
    *,
    seeds: int = 1,
    slides: str | Sequence[str] | None = None,
    held_out: str | Sequence[str] | None = None,
    jobs: int | None = None,
    client: Client | None = None,
    **more: Any,
) -> CrossValidation:
    """Score a model on every labelled slide (or group), trained on the others.

    Parameters
    ----------
    store : EmbeddingStore or path
        Embeddings, coordinates and abundances.
    features, model, target, **more
        See `Setup`: further fields are `group_by`, `standardize`, `balance`, `smooth`, `seed` and
        `options`.
    seeds : int
        Number of seeds, counted up from `seed`; scores are averaged over them.
    slides : str or sequence of str, optional
        Labelled slides to use; all by default.
    held_out : str or sequence of str, optional
        Score only the folds that hold out one of these slides; all by default.
    jobs : int, optional
        Cores to use at most.
    client : distributed.Client, optional
        Score the folds on the workers of this Dask cluster, each with the cores it has.

    Returns
    -------
    CrossValidation

    Raises
    ------
    HistoboostError
        If there are fewer than two labelled slides (or groups), or the input does not fit.
    """
    setup = Setup(features, model, target, **more)
    opened = open_store(store)
    spots = labelled_slides(opened, slides)
    scores = run_folds(
        opened, setup, spots, seeds=seeds, held_out=held_out, jobs=jobs, client=client
    )
    warn_where_nothing_was_learned(scores)
    return scores


def run_folds(
    store: EmbeddingStore,
    setup: Setup,
    spots: Sequence[SpotTable],
    *,
    seeds: int = 1,
    held_out: str | Sequence[str] | None = None,
    jobs: int | None = None,
    cache: FoldCache | None = None,
    client: Client | None = None,
    description: str | None = None,
) -> CrossValidation:
    """`cross_validate` a setup on labelled slides; results are loaded from and kept in `cache`."""
    if seeds < 1:
        raise BadInput(f"seeds {seeds}: must be 1 or more")
    start = time.perf_counter()
    layout = describe(store, spots, setup.features)
    setup = replace(setup, features=layout.features)
    folds = make_folds(spots, setup.group_by, held_out)
    warn_of_leakage(store, layout, folds)
    warn_of_few_spots([spots[at] for at in sorted({at for fold in folds for at in fold.held_out})])
    numbers = tuple(range(setup.seed, setup.seed + seeds))
    work = [(fold, replace(setup, seed=number)) for number in numbers for fold in folds]
    keys = [] if cache is None else [fold_key(layout, *each) for each in work]
    results = {at: found for at, key in enumerate(keys) if cache and (found := cache.find(key))}
    missing = [at for at in range(len(work)) if at not in results]
    description = description or f"evaluate {setup.model}"
    done: Iterator[tuple[int, FoldResult]] = iter(())
    loaded = time.perf_counter() - start
    if missing and client is not None:
        todo = [work[at] for at in missing]
        done = folds_on_cluster(client, store, layout, todo, description)
    elif missing:  # else no features are read
        matrix = features_for(store, layout, setup)
        loaded = time.perf_counter() - start
        done = _folds_here(matrix, [work[at] for at in missing], jobs, description)
    for place, result in done:
        results[missing[place]] = result
        if cache is not None:
            cache.keep(keys[missing[place]], result)
    ordered = tuple(results[at] for at in range(len(work)))
    return CrossValidation(setup, ordered, loaded, numbers, layout.spots)


def _folds_here(
    matrix: Features, work: Sequence[tuple[Fold, Setup]], jobs: int | None, description: str
) -> Iterator[tuple[int, FoldResult]]:
    with progress(description, len(work), "folds") as advance:
        for place, (fold, setup) in enumerate(work):
            yield place, run_fold(matrix, fold, setup, jobs)
            advance(1)
