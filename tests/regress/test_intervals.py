"""Intervals have their nominal coverage if slides, not spots, are exchangeable."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.intervals import Residuals, coverage
from histoboost.regress.targets import fit_target

TARGET = fit_target("raw", np.ones((2, 2)))


def phantom(slides: int, seed: int, sizes: tuple[int, int] = (20, 120)) -> list[Residuals]:
    """Slides with exchangeable errors: each has its own scale and shift."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(slides):
        shape = (int(rng.integers(*sizes)), 3)
        scale, shift = np.exp(0.2 * rng.normal()), 0.3 * rng.normal(size=3)
        errors = shift + scale * rng.normal(size=shape)
        true = rng.uniform(1, 5, size=shape)
        found.append(Residuals((true + errors,), (true,), (0,)))
    return found


def held(known: list[Residuals], new: Residuals, level: float) -> float:
    half = Residuals.concatenate(known).half_width(level, "none", TARGET)
    return float(np.mean(np.abs(new.predicted[0] - new.true[0]) <= half))


@pytest.mark.filterwarnings("ignore:interval")
@pytest.mark.parametrize("slides", [3, 5, 12])
def test_intervals_of_exchangeable_slides_have_their_nominal_coverage(slides):
    """Mean over 20 draws of a few known slides, each evaluated on 15 new ones."""
    found = []
    for draw in range(20):
        known, new = phantom(slides, draw), phantom(15, 1000 + draw)
        found.append(np.mean([held(known, one, 0.9) for one in new]))
    assert 0.88 <= np.mean(found) <= 0.93, found


@pytest.mark.filterwarnings("ignore:interval")
def test_mean_coverage_of_held_out_folds_is_the_level():
    folds = phantom(12, 5)
    for level in (0.5, 0.8, 0.9):
        assert np.mean(coverage(folds, level, "none", TARGET)) == pytest.approx(level, abs=0.02)


@pytest.mark.filterwarnings("ignore:interval")
def test_groups_count_the_same_however_many_slides_and_spots_they_have():
    one, two, three = phantom(3, 1, (60, 61))
    many = Residuals((np.tile(one.predicted[0], (7, 1)),), (np.tile(one.true[0], (7, 1)),), (0,))
    together = Residuals(one.predicted * 7, one.true * 7, (0,) * 7)
    expected, *others = (
        Residuals.concatenate([each, two, three]).half_width(0.8, "none", TARGET)
        for each in (one, many, together)
    )
    for found in others:
        np.testing.assert_allclose(found, expected)


def test_only_too_few_slides_for_a_level_are_warned_about():
    with pytest.warns(HistoboostWarning, match="on 3 held-out .*but 9 are needed") as heard:
        Residuals.concatenate(phantom(3, 3)).half_width(0.9, "none", TARGET)
    assert len([w for w in heard if "interval" in str(w.message)]) == 1
    with warnings.catch_warnings(action="error"):
        Residuals.concatenate(phantom(9, 3)).half_width(0.9, "none", TARGET)
        Residuals.concatenate(phantom(3, 3)).half_width(0.75, "none", TARGET)


def test_slides_that_differ_beyond_all_bounds_are_warned_about():
    small, large = phantom(2, 4)
    far = Residuals((large.predicted[0] + 1e3,), large.true, (0,))
    with pytest.warns(HistoboostWarning, match="largest error"):
        half = Residuals.concatenate([small, far]).half_width(0.8, "none", TARGET)
    assert (half >= 990).all()


@pytest.mark.parametrize("grouped", [True, False], ids=["with groups", "as 0.1.0 wrote them"])
def test_residuals_survive_their_files(grouped):
    joined = Residuals.concatenate(phantom(3, 6))
    arrays = joined.to_files()
    if not grouped:
        del arrays["heldout_groups"]
    again = Residuals.from_files(arrays, 3, 3)
    assert again.groups == (joined.groups if grouped else None)
    assert again.to_files().keys() == arrays.keys()
    arrays["heldout_groups"] = np.zeros(2)
    with pytest.raises(ValueError, match="do not fit their groups"):
        Residuals.from_files(arrays, 3, 3)


def test_a_level_beyond_the_number_of_spots_is_refused():
    with pytest.raises(HistoboostError, match="too few"):
        phantom(1, 7, (20, 21))[0].half_width(0.99, "none", TARGET)
