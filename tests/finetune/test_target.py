"""Targets of the networks, and their inverse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.finetune.target import LearnedTarget, fit_learned_target


@pytest.fixture
def abundance() -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).lognormal(sigma=2.0, size=(30, 5)).astype(np.float32)
    drawn[:, 4] = 0.25  # a type that never varies
    return drawn


def test_zscores_have_mean_zero_and_unit_spread(abundance: NDArray[np.float32]) -> None:
    learned = fit_learned_target("zscore", abundance).forward(abundance)
    np.testing.assert_allclose(learned.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(learned.std(0), [1, 1, 1, 1, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["raw", "zscore", "log", "rank"])
def test_outputs_are_restored_to_targets_of_regress_also_after_json(
    name: str, abundance: NDArray[np.float32]
) -> None:
    learned = fit_learned_target(name, abundance)
    expected = learned.target.forward(abundance)
    np.testing.assert_allclose(learned.restore(learned.forward(abundance)), expected, atol=1e-4)
    assert LearnedTarget.from_json(json.loads(json.dumps(learned.to_json()))) == learned
