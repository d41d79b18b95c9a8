"""Laws of neighbourhood means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path

from histoboost.regress.neighbors import area_mean, ring_mean, spot_graph
from histoboost.spots import spot_pitch


def lattice(kind: str, rows: int, columns: int) -> NDArray[np.float64]:
    y, x = np.mgrid[:rows, :columns].astype(float)
    if kind == "hexagonal":
        x, y = x + 0.5 * (y % 2), y * np.sqrt(3) / 2
    return 25.0 * np.stack([x, y], axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(("kind", "degree"), [("hexagonal", 6), ("square", 4)])
def test_inner_spots_have_as_many_neighbours_as_the_lattice_says(kind, degree):
    xy = lattice(kind, 9, 9)
    jittered = xy + np.random.default_rng(0).uniform(-1.2, 1.2, xy.shape)
    graph = spot_graph(jittered)
    assert graph[[40]].sum() == degree
    assert (graph != graph.T).nnz == 0
    assert graph.diagonal().sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["hexagonal", "square"]), st.integers(1, 3))
def test_the_mean_is_that_over_the_spots_at_graph_distance_1_to_k(seed, kind, rings):
    rng = np.random.default_rng(seed)
    xy = lattice(kind, 6, 5)[rng.random(30) < 0.5]
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
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 100), st.integers(1, 400))
def test_constants_stay_constant(seed, rings, percent, spots):
    xy = np.random.default_rng(seed).uniform(0, 300, size=(spots, 2))
    ones = np.ones((spots, 1), np.float32)
    np.testing.assert_allclose(ring_mean(xy, rings) @ ones, 1, atol=1e-6)
    np.testing.assert_allclose(area_mean(xy, percent) @ ones, 1, atol=1e-5)


def test_fifty_thousand_spots_stay_sparse():
    operator = ring_mean(lattice("hexagonal", 250, 200), 2)
    assert operator.shape == (50_000, 50_000)
    assert operator.nnz <= 18 * 50_000


def test_spots_at_one_place_are_neighbours_and_do_not_shrink_the_pitch():
    xy = np.concatenate([lattice("square", 4, 4), [[0.0, 0.0]]])
    assert spot_pitch(xy) == 25
    assert spot_graph(xy)[[0]].sum() == 3


def tissue(seed: int, kind: str, rows: int = 12, columns: int = 10) -> NDArray[np.float64]:
    """Nine tenths of a lattice, slightly jittered."""
    rng = np.random.default_rng(seed)
    xy = lattice(kind, rows, columns)
    return (xy + rng.uniform(-1, 1, xy.shape))[rng.random(len(xy)) < 0.9]


def plain_area_mean(
    xy: NDArray[np.float64], percent: int, values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean over all spots within the radius, one spot after the other."""
    steps = max(1, round(np.sqrt(len(xy) * percent / 100 / np.pi)))
    radius = (steps + 0.1) * spot_pitch(xy)
    near = [np.hypot(*(xy - centre).T) <= radius for centre in xy]
    return np.array([values[each].mean(axis=0, dtype=np.float64) for each in near])


SEEDS, KINDS = st.integers(0, 2**32 - 1), st.sampled_from(["hexagonal", "square"])


@settings(max_examples=20, deadline=None)
@given(SEEDS, KINDS, st.integers(1, 100))
def test_the_mean_over_a_small_area_is_that_over_the_spots_in_it(seed, kind, percent):
    xy = tissue(seed, kind)
    values = np.random.default_rng(seed).normal(size=(len(xy), 3)).astype(np.float32)
    expected = plain_area_mean(xy, percent, values)
    np.testing.assert_allclose(area_mean(xy, percent) @ values, expected, atol=1e-6)


@pytest.mark.parametrize("percent", [10, 50, 90, 100])
@pytest.mark.parametrize("kind", ["hexagonal", "square"])
def test_the_mean_over_a_large_area_is_close_to_that_over_the_spots_in_it(kind, percent):
    xy = tissue(0, kind, 40, 40)
    waves = np.sin(xy @ np.array([[0.02, 0.002], [0.005, 0.03]])).astype(np.float32)
    expected = plain_area_mean(xy, percent, waves)
    error = np.sqrt(np.mean((area_mean(xy, percent) @ waves - expected) ** 2, axis=0))
    assert (error < 0.2 * expected.std(axis=0)).all()


@settings(max_examples=15, deadline=None)
@given(SEEDS, KINDS, st.sampled_from([1, 10, 90, 100]), st.sampled_from([12, 30]))
def test_areas_depend_on_neither_the_order_of_spots_nor_unit_nor_origin(seed, kind, percent, rows):
    rng = np.random.default_rng(seed)
    xy = tissue(seed, kind, rows, rows)
    values = rng.normal(size=(len(xy), 2)).astype(np.float32)
    found = area_mean(xy, percent) @ values
    order = rng.permutation(len(xy))
    shuffled = area_mean(xy[order], percent) @ values[order]
    np.testing.assert_allclose(shuffled, found[order], atol=1e-5)
    for moved in (xy * 0.25, xy * 3.3, xy + 777):
        np.testing.assert_allclose(area_mean(moved, percent) @ values, found, atol=1e-5)


@pytest.mark.parametrize("percent", [1, 10, 100])
def test_one_spot_is_its_own_area_and_two_spots_are_each_others(percent):
    values = np.array([[1.0], [3.0]], np.float32)
    np.testing.assert_array_equal(area_mean(np.zeros((1, 2)), percent) @ values[:1], [[1]])
    for two in (np.array([[5.0, 5.0], [9.0, 5.0]]), np.zeros((2, 2))):
        np.testing.assert_array_equal(area_mean(two, percent) @ values, [[2], [2]])
