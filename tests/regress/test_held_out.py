"""Nothing of a held-out slide affects the model that predicts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.regress import baselines
from histoboost.regress.baselines import Truth, five_scores
from histoboost.regress.crossval import run_fold
from histoboost.regress.features import FeatureMatrix
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.folds import Fold
from histoboost.regress.heads import MODELS
from histoboost.regress.scores import score_fold
from histoboost.regress.setup import Setup
from histoboost.regress.units import UNITS, to_units

from .conftest import matrix_of

Array = NDArray[np.float64]
FEW = {"n_estimators": 20, "num_leaves": 4}
FITTED = [
    ("lightgbm", FEW),
    ("lightgbm", {**FEW, "early_stopping": 3}),
    *((name, {}) for name in MODELS if name != "lightgbm"),
]


@pytest.mark.parametrize(("model", "options"), FITTED)
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_a_held_out_slide_changes_nothing_of_the_model(store, model, options):
    """Predictions of one spot do not depend on the other held-out spots."""
    setup = Setup("pca:3(net@32)+net@64", model, standardize="none", options=options)
    matrix = matrix_of(store, ["A", "B", "C"], setup.features, "none")
    honest = run_fold(matrix, Fold((2,), (0, 1)), setup, 1).predictions["C"]
    values = matrix.values.copy()
    values[matrix.starts[2] + 1 :] = 1e3
    other = FeatureMatrix(values, matrix.layout)
    changed = run_fold(other, Fold((2,), (0, 1)), setup, 1).predictions["C"]
    np.testing.assert_allclose(changed[0], honest[0], rtol=1e-5, atol=1e-7)


def with_other_labels(matrix: FeatureMatrix, slide: int) -> FeatureMatrix:
    """Shuffle the abundances of one slide over its spots and multiply them by ten."""
    spots = list(matrix.layout.spots)
    labels = spots[slide].abundance
    shuffled = np.random.default_rng(0).permutation(labels.ravel()).reshape(labels.shape)
    spots[slide] = replace(spots[slide], abundance=10 * shuffled)
    return FeatureMatrix(matrix.values, replace(matrix.layout, spots=tuple(spots)))


@pytest.mark.parametrize("model", ["stack", "kernel", "coords", "lightgbm"])
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_no_output_for_a_held_out_slide_depends_on_its_labels(store, model):
    options = FEW if model in ("stack", "lightgbm") else {}
    matrix = matrix_of(store, ["A", "B", "C"], "coords" if model == "coords" else "net@32")
    setup = Setup("net@32", model, group_by="slide", options=options, smooth=0.2)
    found = []
    for each in (matrix, with_other_labels(matrix, 2)):
        predictor = fit_predictor(each, [0, 1], setup, 1)
        raw = score_fold(each, Fold((2,), (0, 1)), setup, predictor, 0.0).predictions["C"]
        found.append({units: to_units(raw, units, predictor.target) for units in UNITS})
    for units in UNITS:
        np.testing.assert_array_equal(found[0][units], found[1][units], err_msg=units)


def test_no_baseline_depends_on_the_labels_of_the_held_out_slide(store, monkeypatch):
    guesses: list[list[Array]] = []

    def kept(order: list[Array], shares: list[Array], held_out: list[Truth]) -> Any:
        guesses.append([*order, *shares])
        return five_scores(order, shares, held_out)

    monkeypatch.setattr(baselines, "five_scores", kept)
    matrix = matrix_of(store, ["A", "B", "C"], "net@32")
    for each in (matrix, with_other_labels(matrix, 2)):
        spots = each.layout.spots
        baselines.baselines(spots[:2], spots[2:], Setup())
    assert len(guesses) == 6
    for model, again in zip(guesses[:3], guesses[3:], strict=True):
        for one, other in zip(model, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.ptp(guesses[2][0], axis=0).min() > 0  # position is informative, constants are not
