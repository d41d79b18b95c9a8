"""Targets, their inverse, and output units."""

import json

import numpy as np
import pytest
from scipy.stats import rankdata

from histoboost.errors import HistoboostError
from histoboost.regress.joint import split
from histoboost.regress.targets import TARGETS, Target, fit_target
from histoboost.regress.units import UNITS, to_units

ABUNDANCE = np.random.default_rng(0).lognormal(sigma=2, size=(30, 7)).astype(np.float32)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_and_the_way_back_keep_the_order_exactly_where_they_can(name):
    target, order = fit_target(name, ABUNDANCE), rankdata(ABUNDANCE, axis=1)
    forward = target.forward(ABUNDANCE)
    back = target.to_abundance(forward)
    if name == "joint":
        forward = split(forward).order
    if name == "rank":
        assert (forward.min(), forward.max()) == (0, 1)
    np.testing.assert_array_equal(rankdata(forward, axis=1), order)
    np.testing.assert_array_equal(rankdata(back, axis=1), order)
    if name not in ("rank", "share"):
        np.testing.assert_allclose(back, ABUNDANCE, rtol=1e-5)
    else:
        np.testing.assert_allclose(back.sum(1), np.mean(ABUNDANCE.sum(1)), rtol=1e-5)


def test_negative_and_zero_abundances_have_a_logarithm():
    values = np.array([[0.0, -1.0, 2.0], [1.0, 3.0, 0.5]])
    for abundance in (values, np.zeros((2, 3))):
        target = fit_target("log", abundance)
        assert np.isfinite(target.forward(abundance)).all()


@pytest.mark.parametrize("name", ["joint", "share"])
def test_a_target_survives_json(name):
    target = fit_target(name, ABUNDANCE)
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", TARGETS)
def test_outputs_are_finite_and_keep_the_order(units, name):
    target = fit_target(name, ABUNDANCE)
    shape = (12, target.width(7))
    raw = np.random.default_rng(1).normal(0.5, 0.2, size=shape).clip(0.01, 0.99)
    out = to_units(raw, units, target)
    assert out.shape == (12, 7)
    assert np.isfinite(out).all()
    if name == "joint":
        parts = split(raw)
        by_units = {"rank-slide": parts.map, "share": parts.share, "softmax": parts.share}
        raw = by_units.get(units, parts.share if units == "abundance" else parts.order)
    axis = 0 if units == "rank-slide" else 1
    np.testing.assert_array_equal(rankdata(out, axis=axis), rankdata(raw, axis=axis))
    if units in ("share", "softmax") and (units == "share" or name == "joint"):
        np.testing.assert_allclose(out.sum(axis=1), 1)
    if units in ("rank", "rank-slide", "share", "softmax"):
        assert out.min() > 0
        assert out.max() <= 1


def test_extreme_and_equal_predictions_give_finite_outputs():
    for name, fold in (("log", 1), ("joint", 3)):
        target = fit_target(name, ABUNDANCE)
        for raw in (np.full((3, 7), 4.0), np.tile([1e4, -1e4, 0, 0, 0, 0, 0], (3, 1))):
            predicted = np.tile(raw, fold) if fold == 1 else np.c_[np.tile(raw, fold), np.zeros(3)]
            for units in UNITS:
                assert np.isfinite(to_units(predicted, units, target)).all(), units


def test_unknown_names_are_refused():
    with pytest.raises(HistoboostError, match="choose one of joint, rank, log, raw, share"):
        fit_target("sqrt", ABUNDANCE)
    with pytest.raises(HistoboostError, match="choose one of rank, rank-slide"):
        to_units(ABUNDANCE, "percent", fit_target("raw", ABUNDANCE))
    with pytest.raises(HistoboostError, match="not finite"):
        fit_target("raw", np.array([[np.nan, 1.0]]))
