"""Spearman correlations equal scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from histoboost.errors import HistoboostError
from histoboost.regress.metrics import spearman, spot_spearman, type_spearman


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 1), st.booleans())
def test_correlations_equal_scipy_also_with_ties(seed: int, axis: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 9, 7))
    if ties:
        a, b = np.round(a), np.round(b)
    found = spearman(a, b, axis)
    for at, value in enumerate(found):
        x, y = (a[at], b[at]) if axis == 1 else (a[:, at], b[:, at])
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        expected = 0.0 if constant else spearmanr(x, y).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_constant_counts_as_zero() -> None:
    true = np.random.default_rng(0).normal(size=(5, 4))
    predicted = true.copy()
    predicted[0] = 7.0
    assert spot_spearman(predicted, true) == pytest.approx(4 / 5)
    predicted = true.copy()
    predicted[:, 2] = 7.0
    assert type_spearman(predicted, true) == pytest.approx(3 / 4)


def test_shapes_and_numbers_are_checked() -> None:
    with pytest.raises(HistoboostError, match="shapes"):
        spot_spearman(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(HistoboostError, match="not finite"):
        spot_spearman(np.full((2, 3), np.nan), np.zeros((2, 3)))
