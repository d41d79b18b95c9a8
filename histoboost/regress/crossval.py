"""Cross-validation that holds out whole slides or groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from histoboost.errors import BadInput
from histoboost.progress import progress
from histoboost.regress.expression import DEFAULT_FEATURES
from histoboost.regress.features import FeatureMatrix, assemble, describe
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.fold_cache import KeptFolds, fold_key
from histoboost.regress.folds import Fold, labelled_slides, make_folds
from histoboost.regress.leakage import warn_of_shared_groups, warn_of_tuning
from histoboost.regress.scores import CrossValidation, FoldResult, score_fold
from histoboost.regress.setup import Setup

if TYPE_CHECKING:
    from distributed import Client

    from histoboost.cache.store import EmbeddingStore


def cross_validate(
    store: EmbeddingStore,
    features: str = DEFAULT_FEATURES,
    model: str = "stack",
    target: str = "rank",
    *,
    group_by: str = "slide",
    seed: int = 0,
    seeds: int = 1,
    slides: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    jobs: int | None = None,
    client: Client | None = None,
    **more: Any,
) -> CrossValidation:
    """Score a model on every labelled slide (or group), trained on the others.

    Parameters
    ----------
    store : EmbeddingStore
        Embeddings, coordinates and abundances.
    features, model, target, group_by, seed, **more
        See `Setup`.
    seeds : int
        Number of seeds, counted up from `seed`; scores are averaged over them.
    slides : sequence of str, optional
        Labelled slides to use; all by default.
    held_out : sequence of str, optional
        Score only the folds that hold out one of these slides; all by default.
    jobs : int, optional
        Cores to use at most.
    client : distributed.Client, optional
        Score the folds on the workers of this Dask cluster, each with the cores it has; where
        there are more workers than folds, the cell types of a fold are divided among several.

    Returns
    -------
    CrossValidation

    Raises
    ------
    HistoboostError
        If there are fewer than two labelled slides (or groups), or the input does not fit.
    """
    setup = Setup(features, model, target, group_by, seed=seed, **more)
    return run_folds(
        store, setup, seeds=seeds, slides=slides, held_out=held_out, jobs=jobs, client=client
    )


def run_folds(
    store: EmbeddingStore,
    setup: Setup,
    *,
    seeds: int = 1,
    slides: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    jobs: int | None = None,
    kept: KeptFolds | None = None,
    client: Client | None = None,
    description: str | None = None,
) -> CrossValidation:
    """`cross_validate` with the setup in one piece, results kept and progress named if asked."""
    if seeds < 1:
        raise BadInput(f"seeds {seeds}: must be 1 or more")
    if description is None:
        description = f"evaluate {setup.model}"
    chosen = labelled_slides(store, slides)
    start = time.perf_counter()
    layout = describe(store, chosen, setup.features)
    setup = replace(setup, features=layout.features)
    if setup.group_by == "slide":
        warn_of_shared_groups(layout.spots)
    folds = make_folds(layout, setup.group_by, held_out)
    tested = [layout.slides[i] for fold in folds for i in fold.held_out]
    warn_of_tuning(store, layout.recipes, tested)
    numbers = tuple(range(setup.seed, setup.seed + seeds))
    wanted = [(fold, replace(setup, seed=number)) for number in numbers for fold in folds]
    results: list[FoldResult | None] = [None] * len(wanted)
    if kept is not None:
        keys = [fold_key(layout, fold, each) for fold, each in wanted]
        results = [kept.find(key) for key in keys]
    missing = [at for at, result in enumerate(results) if result is None]
    units = [wanted[at] for at in missing]
    loaded = time.perf_counter() - start
    if client is None:
        if units:  # features are not even read where every fold was kept
            matrix = assemble(store, chosen, setup.features, setup.standardize)
            loaded = time.perf_counter() - start
            done = _folds_here(matrix, units, jobs, description)
    else:
        from histoboost.regress.distribute import folds_on_cluster

        done = folds_on_cluster(client, store, layout, units, description)
    for place, result in done if units else ():
        results[missing[place]] = result
        if kept is not None:
            kept.keep(keys[missing[place]], result)
    return CrossValidation(
        setup, tuple(result for result in results if result is not None), loaded, numbers
    )


def _folds_here(
    matrix: FeatureMatrix, units: Sequence[tuple[Fold, Setup]], jobs: int | None, description: str
) -> Iterator[tuple[int, FoldResult]]:
    with progress(description, len(units), "folds") as advance:
        for place, (fold, setup) in enumerate(units):
            yield place, run_fold(matrix, fold, setup, jobs)
            advance(1)


def run_fold(
    matrix: FeatureMatrix, fold: Fold, setup: Setup, jobs: int | None = None
) -> FoldResult:
    """Train on a fold's training slides and score its held-out ones."""
    start = time.perf_counter()
    predictor = fit_predictor(matrix, fold.training, setup, jobs)
    return score_fold(matrix, fold, setup, predictor, time.perf_counter() - start)
