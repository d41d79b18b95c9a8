"""Cross-validate a model for a report: predictions, importances and learning curves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoboost.progress import progress
from histoboost.regress.features import FeatureMatrix, assemble
from histoboost.regress.fitting import Predictor
from histoboost.regress.folds import Fold, make_folds
from histoboost.regress.layout import describe
from histoboost.regress.leakage import warn_of_leakage
from histoboost.regress.scores import FoldResult, score_fold
from histoboost.regress.slides import named_slides
from histoboost.regress.targets import Target
from histoboost.report import curves
from histoboost.report.importance import column_groups, gain, permutation

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.setup import Setup


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of a cross-validation.

    `results` and `targets` have one entry per fold: scores with predictions, and their target.
    `importances` maps grouping -> group of features -> ``{"gain", "permutation", "spread"}``.
    `rounds` and `sizes` are the learning curves: numbers of boosting rounds or training slides, and
    their scores in each fold.
    """

    matrix: FeatureMatrix
    results: list[FoldResult]
    targets: list[Target]
    importances: dict[str, dict[str, dict[str, float | None]]]
    rounds: tuple[list[int], list[list[float]]] | None
    sizes: tuple[list[int], list[list[float]]] | None


def evaluate(
    store: EmbeddingStore, slides: Sequence[str], setup: Setup, jobs: int | None = None
) -> Evaluation:
    """Cross-validate `setup` on labelled `slides`, of at least two groups."""
    layout = describe(store, named_slides(store, slides), setup.features)
    folds = make_folds(layout.spots, setup.group_by)
    warn_of_leakage(store, layout, folds, "train with --group-by auto to hold them out together")
    matrix = assemble(store, layout, setup.standardize)
    training_slides = min(len(fold.training) for fold in folds)
    sizes = curves.slide_counts(training_slides, setup)
    predictors, results, size_scores = [], [], []
    with progress("cross-validating", len(folds) * (1 + len(sizes)), "models") as advance:
        for fold in folds:
            predictor, result = _fit_and_score(matrix, fold, setup, jobs)
            predictors.append(predictor)
            results.append(result)
            advance(1)
            scores = []
            for count in sizes:
                scores.append(curves.with_slides(matrix, fold, setup, count, jobs))
                advance(1)
            size_scores.append([*scores, result.spot_spearman])
    with progress("computing importances", len(folds), "models") as advance:
        importances = _importances(matrix, folds, predictors, setup.seed)
        rounds = _rounds(matrix, folds, predictors)
        advance(len(folds))
    return Evaluation(
        matrix=matrix,
        results=results,
        targets=[predictor.target for predictor in predictors],
        importances=importances,
        rounds=rounds,
        sizes=([*sizes, training_slides], size_scores) if sizes else None,
    )


def _fit_and_score(
    matrix: FeatureMatrix, fold: Fold, setup: Setup, jobs: int | None
) -> tuple[Predictor, FoldResult]:
    start = time.perf_counter()
    held_out = ", ".join(matrix.layout.slides[slide] for slide in fold.held_out)
    predictor = curves.fit(matrix, fold.training, setup, jobs, f"trained without {held_out}")
    seconds = time.perf_counter() - start
    return predictor, score_fold(matrix, fold, setup, predictor, seconds)


def _importances(
    matrix: FeatureMatrix, folds: Sequence[Fold], predictors: Sequence[Predictor], seed: int
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Average gain and permutation loss over folds; the spread is the loss's standard error."""
    gains = [gain(predictor) for predictor in predictors]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for grouping, groups in column_groups(matrix.layout.columns).items():
        pairs = zip(folds, predictors, strict=True)
        losses = [_fold_losses(matrix, *pair, groups, seed) for pair in pairs]
        found[grouping] = {}
        for group, columns in groups.items():
            shares = [float(share[columns].sum()) for share in gains if share is not None]
            lost = [each[group] for each in losses]
            found[grouping][group] = {
                "gain": float(np.mean(shares)) if len(shares) == len(gains) else None,
                "permutation": float(np.mean(lost)),
                "spread": float(np.std(lost) / np.sqrt(max(1, len(lost) - 1))),
            }
    return found


def _fold_losses(
    matrix: FeatureMatrix,
    fold: Fold,
    predictor: Predictor,
    groups: dict[str, NDArray[np.intp]],
    seed: int,
) -> dict[str, float]:
    """Average permutation losses over the held-out spots of a fold."""
    total: dict[str, float] = dict.fromkeys(groups, 0.0)
    spots = sum(len(matrix.block(slide)) for slide in fold.held_out)
    for slide in fold.held_out:
        xy = matrix.layout.spots[slide].xy
        block = matrix.block(slide)
        lost = permutation(
            lambda values, xy=xy: predictor.composition(values, xy),  # type: ignore[misc]
            block,
            matrix.layout.abundance(slide),
            groups,
            seed,
        )
        for group, value in lost.items():
            total[group] += value * len(block) / spots
    return total


def _rounds(
    matrix: FeatureMatrix, folds: Sequence[Fold], predictors: Sequence[Predictor]
) -> tuple[list[int], list[list[float]]] | None:
    models = [trees for p in predictors if (trees := curves.boosted_trees(p.fitted)) is not None]
    if len(models) < len(predictors):
        return None
    counts = curves.round_counts([int(trees.rounds_.max()) for trees in models])
    pairs = zip(folds, predictors, strict=True)
    return counts, [curves.by_rounds(matrix, fold, p, counts) for fold, p in pairs]
