"""Learning curves."""

from __future__ import annotations

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.features import assemble
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.folds import Fold
from histoboost.regress.layout import describe
from histoboost.regress.setup import Setup
from histoboost.report.curves import by_rounds, held_out_score, round_counts, slide_counts


def test_rounds_double_up_to_all_of_them():
    assert round_counts([320, 400]) == [12, 25, 50, 100, 200, 400]
    assert round_counts([3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("setup", "training", "expected"),
    [
        (Setup(model="ridge"), 6, [2, 4]),
        (Setup(model="ridge"), 2, [1]),
        (Setup(model="ridge"), 1, []),
        # These set aside a training slide, so they need at least two.
        (Setup(model="stack"), 2, []),
        (Setup(model="lightgbm", options={"early_stopping": 20}), 4, [2, 3]),
    ],
)
def test_a_third_and_two_thirds_of_the_slides_are_scored(setup, training, expected):
    assert slide_counts(training, setup) == expected


@pytest.mark.parametrize("model", ["lightgbm", "stack"])
def test_all_rounds_score_as_the_model_itself(store_path, model):
    store = EmbeddingStore(store_path, mode="r")
    setup = Setup("stain-texture@16", model, options={"n_estimators": 12})
    spots = [store.spots(name) for name in ("S_1", "S_2", "S_3")]
    matrix = assemble(store, describe(store, spots, setup.features))
    fold = Fold((2,), (0, 1))
    predictor = fit_predictor(matrix, fold.training, setup, jobs=1)
    few, every = by_rounds(matrix, fold, predictor, [1, 12])
    assert every == pytest.approx(held_out_score(matrix, fold, predictor), abs=1e-9)
    assert few != every
