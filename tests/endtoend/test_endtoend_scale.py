"""Targets of the networks, and the way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.endtoend.scale import Scale, fit_scale


@pytest.fixture
def abundance() -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).lognormal(sigma=2.0, size=(30, 5)).astype(np.float32)
    drawn[:, 4] = 0.25  # a type that never varies
    return drawn


def test_zscores_have_mean_zero_and_unit_spread(abundance: NDArray[np.float32]) -> None:
    learned = fit_scale("zscore", abundance).forward(abundance)
    np.testing.assert_allclose(learned.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(learned.std(0), [1, 1, 1, 1, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["raw", "zscore"])
def test_restore_undoes_forward(name: str, abundance: NDArray[np.float32]) -> None:
    scale = fit_scale(name, abundance)
    np.testing.assert_allclose(scale.restore(scale.forward(abundance)), abundance, atol=1e-4)


@pytest.mark.parametrize("name", ["raw", "log", "rank"])
def test_other_targets_are_those_of_regress(name: str, abundance: NDArray[np.float32]) -> None:
    scale = fit_scale(name, abundance)
    expected = scale.target.forward(abundance)
    np.testing.assert_allclose(scale.forward(abundance), expected, rtol=1e-6)
    np.testing.assert_array_equal(scale.restore(scale.forward(abundance)), scale.forward(abundance))


@pytest.mark.parametrize("name", ["raw", "zscore", "log", "rank"])
def test_a_scale_survives_json(name: str, abundance: NDArray[np.float32]) -> None:
    scale = fit_scale(name, abundance)
    assert Scale.from_json(json.loads(json.dumps(scale.to_json()))) == scale
