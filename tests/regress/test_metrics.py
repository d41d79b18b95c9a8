"""Scores equal scipy's."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr, spearmanr

from histoboost.errors import HistoboostError
from histoboost.regress.baselines import Truth, baselines, five_scores
from histoboost.regress.metrics import (
    pearson,
    share_jsd,
    share_rmse,
    spearman,
    spot_spearman,
    type_spearman,
)
from histoboost.regress.setup import Setup
from histoboost.spots import SpotTable


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 1), st.booleans())
def test_rank_correlations_equal_scipy_and_are_0_for_constants(seed, axis, ties):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 9, 7))
    if ties:
        a, b = np.round(a), np.round(b)
        a[0], b[:, 2] = 7.0, 1 / 3
    found = spearman(a, b, axis)
    for at, value in enumerate(found):
        x, y = (a[at], b[at]) if axis == 1 else (a[:, at], b[:, at])
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        expected = 0.0 if constant else spearmanr(x, y).statistic
        assert value == pytest.approx(expected, abs=1e-12)
    mean = type_spearman if axis == 0 else spot_spearman
    assert mean(a, b) == pytest.approx(found.mean())


def test_shapes_and_numbers_are_checked():
    with pytest.raises(HistoboostError, match="shapes"):
        spot_spearman(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(HistoboostError, match="not finite"):
        spot_spearman(np.full((2, 3), np.nan), np.zeros((2, 3)))


def shares(seed: int, spots: int = 9, types: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of shares, some of them 0."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, size=(2, spots, types)) * (rng.random((2, spots, types)) < 0.8)
    values[..., 0] += 1e-3
    first, second = values / values.sum(axis=2, keepdims=True)
    return first, second


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 1 / 3]))
def test_scores_of_shares_equal_scipy(seed, constant):
    predicted, true = shares(seed)
    columns = predicted.T.copy(), true.T.copy()
    columns[0][1] = columns[1][2] = constant
    plain = [
        0.0 if np.ptp(p) == 0 or np.ptp(t) == 0 else pearsonr(p, t).statistic
        for p, t in zip(*columns, strict=True)
    ]
    np.testing.assert_allclose(pearson(columns[0].T, columns[1].T), plain, atol=1e-9)
    squares = [jensenshannon(p, t, base=2) ** 2 for p, t in zip(predicted, true, strict=True)]
    assert share_jsd(predicted, true) == pytest.approx(np.mean(squares), abs=1e-9)
    rmse = np.sqrt(sum((p - t) ** 2 for p, t in zip(predicted.flat, true.flat, strict=True)) / 54)
    assert share_rmse(predicted, true) == pytest.approx(rmse)


def test_a_slide_without_any_abundance_is_scored_without_a_warning():
    table = SpotTable("S", np.eye(3)[:, :2], ("0", "1", "2"), np.zeros((3, 2)), ("a", "b"))
    with warnings.catch_warnings(action="error"):
        scores, types = five_scores(
            [np.eye(3)[:, :2]], [np.full((3, 2), 0.5)], [Truth.from_spots(table)]
        )
    assert scores["spot_spearman"] == scores["type_pearson"] == 0
    assert types["a"] == {"spearman": 0.0, "pearson": 0.0}


def test_spots_without_any_abundance_count_for_the_order_alone():
    predicted, true = shares(3)
    xy = np.arange(20.0).reshape(10, 2)
    abundance = np.concatenate([true, np.zeros((1, 6))])
    table = SpotTable("S", xy, tuple("0123456789"), abundance, tuple("abcdef"))
    guess = np.concatenate([predicted, predicted[:1]])
    scores, _ = five_scores([guess], [guess], [Truth.from_spots(table)])
    assert scores["share_rmse"] == pytest.approx(share_rmse(predicted, true), rel=1e-6)
    assert scores["share_jsd"] == pytest.approx(share_jsd(predicted, true), rel=1e-6)
    assert scores["type_pearson"] == pytest.approx(pearson(predicted, true).mean(), rel=1e-6)
    assert scores["spot_spearman"] == pytest.approx(0.9 * spot_spearman(predicted, true))


def test_training_spots_without_any_abundance_do_not_blur_the_mean_share():
    rng, types = np.random.default_rng(0), tuple("abc")

    def slide(name: str, spots: int, empty: int = 0) -> SpotTable:
        abundance = rng.gamma([9.0, 1.0, 0.1], size=(spots, 3))
        abundance[:empty] = 0
        ids = tuple(map(str, range(spots)))
        return SpotTable(name, rng.uniform(0, 9, (spots, 2)), ids, abundance, types)

    training, held_out = slide("A", 30, empty=20), [slide("B", 12)]
    kept = {name: getattr(training, name)[20:] for name in ("xy", "spot_ids", "abundance")}
    rest = replace(training, **kept)
    one, other = (baselines([table], held_out, Setup())["mean"] for table in (training, rest))
    assert one["share_rmse"] == pytest.approx(other["share_rmse"])
    assert one["share_jsd"] == pytest.approx(other["share_jsd"])
