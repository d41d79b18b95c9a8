"""Statistics of the exploration page, compared with plain references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from histoboost.regress.neighbors import spot_graph
from histoboost.regress.targets import fit_target
from histoboost.regress.units import to_units
from histoboost.report import statistics


@pytest.fixture
def abundance() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, size=(60, 4)).astype(np.float32)


def square(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.stack([x.ravel(), y.ravel()], axis=1) * 20.0


def test_moran_agrees_with_its_formula_written_as_loops(abundance):
    xy = np.random.default_rng(1).permutation(square(8))[:60]
    graph = spot_graph(xy)
    weights = graph.toarray()
    for column, value in zip(abundance.T, statistics.moran(abundance, graph), strict=True):
        z = column.astype(float) - column.astype(float).mean()
        total = sum(weights[i, j] * z[i] * z[j] for i in range(60) for j in range(60))
        assert value == pytest.approx(60 / weights.sum() * total / (z**2).sum())


def test_moran_is_high_for_a_gradient_minus_one_for_a_chessboard_and_unknown_for_a_constant():
    xy = square(10)
    gradient = xy[:, 0]
    chess = (xy.sum(axis=1) / 20) % 2
    graph = spot_graph(xy)
    values = statistics.moran(np.stack([gradient, chess, np.full(100, 0.1)], axis=1), graph)
    assert values[0] > 0.8
    assert values[1] == pytest.approx(-1)
    assert np.isnan(values[2])


def test_moran_of_a_lone_spot_is_unknown():
    assert np.isnan(statistics.moran(np.ones((1, 2)), spot_graph(np.zeros((1, 2))))).all()


def test_sparsity_counts_spots_where_a_type_is_below_one_percent():
    abundance = np.array([[0.0, 1.0], [0.5, 0.5], [0.009, 0.991], [0.011, 0.989], [0.0, 0.0]])
    # The last spot holds nothing, so every type is absent from it.
    assert statistics.sparsity(abundance).tolist() == pytest.approx([3 / 5, 1 / 5])


def test_mean_ranks_are_those_that_predict_writes(abundance):
    written = to_units(abundance, "rank", fit_target("raw", abundance))
    assert statistics.mean_ranks(abundance) == pytest.approx(written.mean(axis=0))


def test_correlation_is_spearmans(abundance):
    expected = spearmanr(abundance).statistic
    np.testing.assert_allclose(statistics.spearman_matrix(abundance), expected, atol=1e-12)


def test_similar_types_are_neighbours_despite_unknown_correlations():
    correlation = np.array([[1, 0, 0.9, np.nan], [0, 1, 0, 0], [0.9, 0, 1, 0], [np.nan, 0, 0, 1]])
    order = statistics.similar_first(correlation)
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
