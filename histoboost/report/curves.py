"""Learning curves: would more boosting rounds or more training slides help?"""

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

#: Fractions of the boosting rounds and of the training slides to score.
ROUND_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
SLIDE_SHARES = (0.34, 0.67)


def held_out_score(matrix: FeatureMatrix, fold: Fold, predictor: Predictor) -> float:
    """Mean per-spot Spearman over all held-out spots of a fold."""
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
    """Train on these slides, with `where` in front of any warnings."""
    with warnings_kept() as warned:
        predictor = fit_predictor(matrix, slides, setup, jobs)
    pass_on(f"{where}: {line}" for line in warned)
    return predictor


def round_counts(rounds: Sequence[int]) -> list[int]:
    """Numbers of rounds to score, up to all rounds; empty without rounds."""
    most = max(rounds, default=0)
    return sorted({max(1, round(most * share)) for share in ROUND_SHARES}) if most else []


def boosted_trees(fitted: Fitted) -> MultiTargetLGBM | None:
    """Boosted trees of a model, or None if it has none."""
    if isinstance(fitted, FittedLightGBM):
        return fitted.trees
    return fitted.forests[0].trees if isinstance(fitted, FittedStack) and fitted.forests else None


def by_rounds(
    matrix: FeatureMatrix, fold: Fold, predictor: Predictor, counts: Sequence[int]
) -> list[float]:
    """Score the held-out slides with only the first trees, one score for each of the `counts`.

    `predictor` is trained on the fold and must have trees.
    """
    import lightgbm as lgb

    from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

    fitted = predictor.fitted
    all_trees = boosted_trees(fitted)
    assert all_trees is not None
    boosters = [lgb.Booster(model_str=text) for text in all_trees.texts_]
    scores = []
    for count in counts:
        texts = [booster.model_to_string(num_iteration=count) for booster in boosters]
        first_trees = MultiTargetLGBM.from_texts(texts)
        truncated: Fitted
        if isinstance(fitted, FittedStack):
            forest, *others = fitted.forests
            truncated = replace(fitted, forests=(replace(forest, trees=first_trees), *others))
        else:
            truncated = FittedLightGBM(first_trees)
        scores.append(held_out_score(matrix, fold, replace(predictor, fitted=truncated)))
    return scores


def slide_counts(training: int, setup: Setup) -> list[int]:
    """Numbers of training slides to score, fewer than all of them."""
    # One training slide is set aside for early stopping, or by stack to fit the trees.
    least = 2 if "early_stopping" in setup.options or setup.model == "stack" else 1
    counts = {max(least, round(training * share)) for share in SLIDE_SHARES}
    return sorted(count for count in counts if count < training)


def with_slides(
    matrix: FeatureMatrix, fold: Fold, setup: Setup, count: int, jobs: int | None
) -> float:
    """Score after training on only `count` of the training slides, drawn with the setup's seed."""
    rng = np.random.default_rng([setup.seed, count, *fold.held_out])
    chosen = sorted(int(i) for i in rng.permutation(fold.training)[:count])
    predictor = fit(matrix, chosen, setup, jobs, f"learning curve, {count} training slides")
    return held_out_score(matrix, fold, predictor)
