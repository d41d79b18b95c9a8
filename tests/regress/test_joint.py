"""Order and map in one prediction: the order is kept, the map as far as the order allows."""

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression

from histoboost.errors import HistoboostWarning
from histoboost.regress.joint import Joint, merge, split, to_joint, to_shares
from histoboost.regress.layout import ranks_of
from histoboost.regress.neighbors import smooth
from histoboost.regress.targets import fit_target
from histoboost.regress.units import to_units
from histoboost.spots import SpotTable

Array = NDArray[np.float64]


def predicted(seed: int, spots: int = 12, types: int = 5, ties: bool = False) -> Joint:
    rng = np.random.default_rng(seed)
    order, on_map, share = rng.normal(0.5, 0.3, size=(3, spots, types))
    if ties:
        order, on_map = np.round(order, 1), np.round(on_map, 1)
    return Joint(order, on_map, share, rng.normal(size=(spots, 1)))


def plain_merge(joint: Joint) -> Array:
    """The formula of the design, one spot after the other."""
    spots, types = joint.order.shape
    sigma = np.mean([np.std(joint.order[:, j]) for j in range(types)])
    merged = np.empty((spots, types))
    for i in range(spots):
        wanted = []
        for j in range(types):
            on_map = joint.map[:, j]
            z = 0.0 if np.ptp(on_map) == 0 else (on_map[i] - on_map.mean()) / on_map.std()
            wanted.append(joint.order[:, j].mean() + 2 * sigma * z)
        merged[i] = IsotonicRegression().fit_transform(joint.order[i], wanted)
    return merged + 1e-3 * joint.order


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_the_merge_keeps_the_order_of_every_spot(seed, spots, types, ties):
    joint = predicted(seed, spots, types, ties)
    np.testing.assert_array_equal(rankdata(merge(joint), axis=1), rankdata(joint.order, axis=1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_merge_equals_isotonic_regression_spot_by_spot(seed, ties):
    joint = predicted(seed, ties=ties)
    np.testing.assert_allclose(merge(joint), plain_merge(joint), atol=1e-12)


@pytest.mark.parametrize("spots", [1, 2])
def test_one_or_two_spots_have_only_an_order(spots):
    joint = predicted(0, spots)
    np.testing.assert_array_equal(merge(joint), joint.order)


@pytest.mark.parametrize("level", [0.1, 0.5, 1 / 3], ids=["a tenth", "a half", "a third"])
def test_a_constant_map_moves_no_type(level):
    joint = predicted(0, spots=11)
    joint.map[:, 2] = level  # its mean is off by a rounding: no reason to move the type
    np.testing.assert_allclose(merge(joint), plain_merge(joint), atol=1e-12)
    flat = joint._replace(
        map=np.full_like(joint.map, level), order=np.tile(joint.order[0], (11, 1))
    )
    np.testing.assert_allclose(merge(flat), 1.001 * flat.order, atol=1e-12)


def test_the_map_is_followed_where_the_order_allows_it():
    order = np.tile([0.0, 0.5, 1.0], (20, 1)) + np.random.default_rng(0).normal(0, 1e-3, (20, 3))
    joint = predicted(1, spots=20, types=3)._replace(order=order)
    for type_ in range(3):
        found, wanted = merge(joint)[:, type_], joint.map[:, type_]
        np.testing.assert_allclose(np.corrcoef(found, wanted)[0, 1], 1, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_columns_are_split_into_what_they_were_joined_from(seed, spots, types):
    abundance = np.random.default_rng(seed).lognormal(size=(spots, types))
    joint = to_joint(abundance, abundance.sum(1).mean())
    for one, other in zip(joint, split(joint.columns()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_negative_abundances_count_as_none_and_a_spot_without_any_has_no_shares():
    joint = to_joint(np.array([[-1.0, 1.0, 3.0], [0.0, 0.0, 0.0], [-1.0, -2.0, 0.0]]), 4.0)
    np.testing.assert_array_equal(joint.share, [[0, 0.25, 0.75], [0, 0, 0], [0, 0, 0]])
    assert joint.total[0] == 0
    assert np.isfinite(joint.total).all()
    predicted_shares = to_shares(np.array([[-1.0, 1.0, 3.0], [-0.1, -0.2, 0.0]]))
    np.testing.assert_array_equal(predicted_shares, [[0, 0.25, 0.75], [1 / 3, 1 / 3, 1 / 3]])


ABUNDANCE = np.random.default_rng(0).lognormal(sigma=2, size=(30, 5))


def test_each_of_the_units_comes_from_the_part_that_is_right_for_it():
    target, joint = fit_target("joint", ABUNDANCE), predicted(3)
    found = {
        units: to_units(joint.columns(), units, target)
        for units in ("rank", "rank-slide", "share", "softmax", "abundance", "none")
    }
    np.testing.assert_array_equal(found["rank"], rankdata(joint.order, axis=1) / 5)
    np.testing.assert_array_equal(found["rank-slide"], rankdata(joint.map, axis=0) / 12)
    np.testing.assert_array_equal(found["none"], merge(joint))
    positive = np.maximum(joint.share, 0)
    shares = positive / positive.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["share"], shares)
    np.testing.assert_array_equal(found["softmax"], found["share"])
    np.testing.assert_allclose(found["share"].sum(axis=1), 1)
    totals = ABUNDANCE.sum(1).mean() * np.exp(joint.total)
    np.testing.assert_allclose(found["abundance"], shares * totals)


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["as predicted", "smoothed"])
def test_totals_that_could_not_be_learned_are_warned_about(share):
    xy = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), axis=-1).reshape(-1, 2)
    joint = predicted(0)
    joint.total[:] = -0.3
    columns = smooth(joint.columns(), xy, share)
    with pytest.warns(HistoboostWarning, match="totals could not be predicted"):
        to_units(columns, "abundance", fit_target("joint", ABUNDANCE))


def test_the_share_target_warns_that_it_learns_no_totals():
    target = fit_target("share", ABUNDANCE)
    with pytest.warns(HistoboostWarning, match="learns no totals"):
        to_units(predicted(0).share, "abundance", target)
    with warnings.catch_warnings(action="error"):
        to_units(predicted(0).share, "share", target)


@pytest.mark.parametrize("name", ["joint", "share"])
def test_equal_totals_need_no_learning_and_no_warning(name):
    target = fit_target(name, to_shares(ABUNDANCE).astype(np.float32))
    joint = predicted(0)
    joint.total[:] = 0
    with warnings.catch_warnings(action="error"):
        values = joint.columns() if name == "joint" else joint.share
        found = to_units(values, "abundance", target)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_ranks_that_are_known_make_the_same_target_and_go_with_their_table():
    abundance = np.random.default_rng(0).integers(0, 4, (9, 5)).astype(np.float32)
    table = SpotTable("S", np.eye(9)[:, :2], tuple("012345678"), abundance, tuple("abcde"))
    plain, known = to_joint(abundance, 2.0), to_joint(abundance, 2.0, ranks_of(table))
    for one, other in zip(plain, known, strict=True):
        np.testing.assert_array_equal(one, other)
    kept = weakref.ref(ranks_of(table).by_type)
    assert kept() is ranks_of(table).by_type
    del table, known
    gc.collect()
    assert kept() is None
