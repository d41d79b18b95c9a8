"""Losses of (B, T) predictions and targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: Keeps the correlation of a constant row finite.
EPSILON = 1e-6

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_function(name: str, temperature: float) -> Loss:
    """Loss by name: ``"mse"``, ``"mae"`` or ``"soft-spearman"``, which needs the temperature."""
    losses: dict[str, Loss] = {
        "mse": nn.functional.mse_loss,
        "mae": nn.functional.l1_loss,
        "soft-spearman": lambda p, t: soft_spearman_loss(p, t, temperature),
    }
    return losses[name]


def soft_ranks(values: Tensor, temperature: float) -> Tensor:
    """Differentiable ranks along the last axis.

    A rank is 1/2 plus the number of smaller values, equal ones counting one half; here a sigmoid of
    the difference replaces the comparison. The temperature is in standard deviations of a row;
    towards 0 the ranks become exact.
    """
    spread = values.std(-1, keepdim=True, correction=0) + EPSILON
    scaled = values / spread
    difference = scaled.unsqueeze(-1) - scaled.unsqueeze(-2)
    return 0.5 + torch.sigmoid(difference / temperature).sum(-1)


def exact_ranks(values: Tensor) -> Tensor:
    """Ranks 1 to T along the last axis; equal values share their mean rank."""
    difference = values.unsqueeze(-1) - values.unsqueeze(-2)
    return 0.5 + (0.5 + 0.5 * difference.sign()).sum(-1)


def soft_spearman_loss(prediction: Tensor, target: Tensor, temperature: float) -> Tensor:
    """One minus the mean per-spot correlation of soft predicted and exact target ranks.

    A spot with a constant target has no order and costs exactly 1.
    """
    soft = soft_ranks(prediction, temperature)
    ranks = exact_ranks(target)
    soft = soft - soft.mean(-1, keepdim=True)
    ranks = ranks - ranks.mean(-1, keepdim=True)
    norm = soft.norm(dim=-1) * ranks.norm(dim=-1)
    correlation: Tensor = (soft * ranks).sum(-1) / (norm + EPSILON)
    return 1.0 - correlation.mean()
