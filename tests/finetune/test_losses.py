"""The soft-Spearman loss against scipy's exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from histoboost.finetune.losses import exact_ranks, loss_function, soft_ranks, soft_spearman_loss


def values(seed: int, ties: bool = False) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(6, 15))
    return np.round(drawn, 1) if ties else drawn


@pytest.mark.parametrize("ties", [False, True])
def test_exact_ranks_equal_scipy(ties: bool) -> None:
    x = values(0, ties)
    np.testing.assert_allclose(exact_ranks(torch.from_numpy(x)), rankdata(x, axis=1))


def test_soft_ranks_become_exact_at_low_temperature() -> None:
    x = torch.from_numpy(values(1))
    far = (soft_ranks(x, 1.0) - exact_ranks(x)).abs().max()
    near = (soft_ranks(x, 1e-4) - exact_ranks(x)).abs().max()
    assert near < 1e-3 < far


def test_soft_ranks_ignore_shift_and_scale() -> None:
    x = torch.from_numpy(values(2))
    torch.testing.assert_close(soft_ranks(7 * x - 3, 0.1), soft_ranks(x, 0.1), rtol=1e-4, atol=1e-4)


def test_the_loss_is_one_minus_the_mean_spearman_at_low_temperature() -> None:
    p, t = values(3), values(4, ties=True)
    expected = 1 - np.mean([spearmanr(a, b).statistic for a, b in zip(p, t, strict=True)])
    got = soft_spearman_loss(torch.from_numpy(p), torch.from_numpy(t), 1e-4)
    assert float(got) == pytest.approx(expected, abs=1e-3)


def test_descending_the_loss_sorts_the_prediction() -> None:
    target = torch.from_numpy(values(5))
    x = torch.from_numpy(values(6)).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        soft_spearman_loss(x, target, 0.1).backward()
        optimizer.step()
    pairs = zip(x.detach().numpy(), target.numpy(), strict=True)
    assert min(spearmanr(a, b).statistic for a, b in pairs) > 0.97


def test_a_constant_target_or_prediction_costs_one_and_gives_finite_gradients() -> None:
    x = torch.zeros(2, 5, requires_grad=True)
    loss = soft_spearman_loss(x, torch.ones(2, 5), 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("name", "expected"), [("mse", 2.5), ("mae", 1.5)])
def test_the_plain_losses(name: str, expected: float) -> None:
    got = loss_function(name, 0.1)(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    assert float(got) == expected
