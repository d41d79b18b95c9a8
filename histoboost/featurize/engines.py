"""Engines: what runs a backbone on a batch of patches, and on which device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from histoboost.errors import HistoboostError
from histoboost.featurize.backbones import Backbone
from histoboost.featurize.patches import normalise


class Engine(Protocol):
    """Runs a backbone; equal in results, different in speed."""

    name: str
    device: torch.device

    def embed(self, patches: Tensor) -> Tensor:
        """(B, 3, px, px) uint8 on `device` to (B, D) float32 on the CPU."""
        ...


class TorchEngine:
    """The backbone in PyTorch."""

    name = "torch"

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        self.device = device
        self._mean, self._std = backbone.mean, backbone.std
        self._module = backbone.module.to(device).to(memory_format=torch.channels_last)

    def embed(self, patches: Tensor) -> Tensor:
        """(B, 3, px, px) uint8 on `device` to (B, D) float32 on the CPU."""
        with torch.inference_mode():
            out: Tensor = self._module(normalise(patches, self._mean, self._std))
        return out.float().cpu()


def pick_device(device: str) -> torch.device:
    """The device that ``auto|cpu|cuda|cuda:N`` means on this machine.

    Raises
    ------
    HistoboostError
        If the name is none of these, or there is no such GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise HistoboostError(f"device {device!r}: unknown; give auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        have = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise HistoboostError(
            f"device {device!r}: torch sees {have} GPUs here; give --device cpu or auto"
        )
    return torch.device(device)
