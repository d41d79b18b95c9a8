"""Neighbour means: laws that hold on every lattice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path

from histoboost.errors import HistoboostError
from histoboost.regress.neighbors import ring_mean, spot_graph
from histoboost.spots import spot_pitch


def lattice(kind: str, rows: int, columns: int) -> NDArray[np.float64]:
    y, x = np.mgrid[:rows, :columns].astype(float)
    if kind == "hexagonal":
        x, y = x + 0.5 * (y % 2), y * np.sqrt(3) / 2
    return 25.0 * np.stack([x, y], axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(("kind", "degree"), [("hexagonal", 6), ("square", 4)])
def test_inner_spots_have_as_many_neighbours_as_the_lattice_says(kind: str, degree: int) -> None:
    xy = lattice(kind, 9, 9)
    jittered = xy + np.random.default_rng(0).uniform(-1.2, 1.2, xy.shape)
    graph = spot_graph(jittered)
    assert graph[[40]].sum() == degree
    assert (graph != graph.T).nnz == 0
    assert graph.diagonal().sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["hexagonal", "square"]), st.integers(1, 3))
def test_the_mean_is_that_over_the_spots_at_graph_distance_1_to_k(
    seed: int, kind: str, rings: int
) -> None:
    rng = np.random.default_rng(seed)
    xy = lattice(kind, 6, 5)[rng.random(30) < 0.7]
    if len(xy) == 0:
        return
    values = rng.normal(size=(len(xy), 3))
    distance = shortest_path(spot_graph(xy), unweighted=True)
    expected = np.empty_like(values)
    for spot in range(len(xy)):
        ring = (distance[spot] >= 1) & (distance[spot] <= rings)
        expected[spot] = values[ring].mean(axis=0) if ring.any() else values[spot]
    np.testing.assert_allclose(ring_mean(xy, rings) @ values, expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_constants_stay_constant(seed: int, rings: int) -> None:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 200, size=(rng.integers(1, 60), 2))
    np.testing.assert_allclose(ring_mean(xy, rings) @ np.ones(len(xy)), 1, atol=1e-6)


def test_an_isolated_spot_keeps_its_value() -> None:
    xy = np.concatenate([lattice("square", 3, 3), [[900.0, 900.0]]])
    values = np.arange(10.0)
    assert (ring_mean(xy, 2) @ values)[9] == 9
    assert (ring_mean(np.array([[5.0, 5.0]]), 1) @ np.array([3.0]))[0] == 3


def test_fifty_thousand_spots_stay_sparse() -> None:
    operator = ring_mean(lattice("hexagonal", 250, 200), 2)
    assert operator.shape == (50_000, 50_000)
    assert operator.nnz <= 18 * 50_000


def test_spots_at_one_place_are_neighbours_and_do_not_shrink_the_pitch() -> None:
    xy = np.concatenate([lattice("square", 4, 4), [[0.0, 0.0]]])
    assert spot_pitch(xy) == 25
    assert spot_graph(xy)[[0]].sum() == 3


def test_coordinates_that_are_not_finite_are_refused() -> None:
    with pytest.raises(HistoboostError, match="not finite"):
        spot_graph(np.array([[0.0, np.nan], [1.0, 1.0]]))
    with pytest.raises(HistoboostError, match="1 or more"):
        ring_mean(np.zeros((2, 2)), 0)
