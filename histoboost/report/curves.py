"""Learning curves: would more boosting rounds, or more slides, help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from histoboost.errors import pass_on, warnings_kept
from histoboost.regress.fitting import Predictor, fit_predictor
from histoboost.regress.folds import Fold
from histoboost.regress.heads.lightgbm import FittedLightGBM
from histoboost.regress.heads.stack import FittedStack
from histoboost.regress.metrics import spearman
from histoboost.regress.units import to_units

if TYPE_CHECKING:
    from histoboost.regress.features import FeatureMatrix
    from histoboost.regress.heads.base import Fitted
    from histoboost.regress.multi_target_lgbm import MultiTargetLGBM
    from histoboost.regress.setup import Setup

#: Shares of the boosting rounds, and of the training slides, that are scored.
ROUND_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
SLIDE_SHARES = (0.34, 0.67)


def held_out_score(matrix: FeatureMatrix, fold: Fold, predictor: Predictor) -> float:
    """Per-spot Spearman over all held-out spots of a fold."""
    scores = [
        spearman(
            to_units(predictor.predict_slide(matrix, slide), "none", predictor.target),
            matrix.layout.abundance(slide),
            axis=1,
        )
        for slide in fold.held_out
    ]
    return float(np.concatenate(scores).mean())


def fit(
    matrix: FeatureMatrix, slides: Sequence[int], setup: Setup, jobs: int | None, where: str
) -> Predictor:
    """Train on these slides; `where` begins the warnings that come of it."""
    with warnings_kept() as heard:
        predictor = fit_predictor(matrix, slides, setup, jobs)
    pass_on(f"{where}: {line}" for line in heard)
    return predictor


def round_counts(rounds: Sequence[int]) -> list[int]:
    """The numbers of rounds to score, the last of them all rounds; empty without rounds."""
    most = max(rounds, default=0)
    return sorted({max(1, round(most * share)) for share in ROUND_SHARES}) if most else []


def boosted(fitted: Fitted) -> MultiTargetLGBM | None:
    """The boosted trees of a model; None where it has none."""
    if isinstance(fitted, FittedLightGBM):
        return fitted.trees
    return fitted.forests[0].trees if isinstance(fitted, FittedStack) and fitted.forests else None


def by_rounds(
    matrix: FeatureMatrix, fold: Fold, predictor: Predictor, counts: Sequence[int]
) -> list[float]:
    """Score with the first trees of every boosted model on the slides that `fold` holds out.

    One score for each of the `counts` of trees; `predictor`, trained on the fold, must have trees.
    """
    import lightgbm as lgb

    from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

    fitted = predictor.fitted
    whole = boosted(fitted)
    assert whole is not None
    trees = [lgb.Booster(model_str=text) for text in whole.texts_]
    scores = []
    for count in counts:
        texts = [each.model_to_string(num_iteration=count) for each in trees]
        first = MultiTargetLGBM.from_texts(texts)
        shorter: Fitted
        if isinstance(fitted, FittedStack):
            forest, *others = fitted.forests
            shorter = replace(fitted, forests=(replace(forest, trees=first), *others))
        else:
            shorter = FittedLightGBM(first)
        scores.append(held_out_score(matrix, fold, replace(predictor, fitted=shorter)))
    return scores


def slide_counts(training: int, setup: Setup) -> list[int]:
    """The numbers of training slides to score, fewer than all of them."""
    # One of them says when to stop, or what the trees correct.
    least = 2 if "early_stopping" in setup.options or setup.model == "stack" else 1
    counts = {max(least, round(training * share)) for share in SLIDE_SHARES}
    return sorted(count for count in counts if count < training)


def with_slides(
    matrix: FeatureMatrix, fold: Fold, setup: Setup, count: int, jobs: int | None
) -> float:
    """Score when only `count` of the training slides are used, chosen by the setup's seed."""
    rng = np.random.default_rng([setup.seed, count, *fold.held_out])
    chosen = sorted(int(i) for i in rng.permutation(fold.training)[:count])
    predictor = fit(matrix, chosen, setup, jobs, f"learning curve, {count} training slides")
    return held_out_score(matrix, fold, predictor)
