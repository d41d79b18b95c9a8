"""The interface of inference engines.

Engines differ in speed only: all stay within 1e-4 of the plain network in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Waits for a batch and returns its embeddings, (B, D) float32, in memory of their own.
Pending = Callable[[], NDArray[np.float32]]


class Engine(Protocol):
    """Runs a backbone batch by batch on `device`, where it expects the patches.

    `batch` is the number of patches per pass, lowered when memory runs out; `crop_threads` limits
    the cropping threads while the engine runs (None: PyTorch's number).
    """

    name: str
    device: torch.device
    batch: int
    crop_threads: int | None

    def submit(self, patches: Tensor) -> Pending:
        """Start embedding up to `batch` patches, (B, 3, px, px) uint8 on `device`."""
        ...


class DihedralMean(nn.Module):
    """Mean of a network's output over the eight flips and quarter turns of its input."""

    def __init__(self, network: nn.Module, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.network = network
        self.widths = list(widths)  # averaged separately: the number of columns moves last bits

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, D)."""
        outputs = []
        for base in (pixels, pixels.transpose(2, 3)):
            for axes in ((), (2,), (3,), (2, 3)):
                view = base.flip(axes) if axes else base
                outputs.append(self.network(view.contiguous(memory_format=torch.channels_last)))
        stacked = torch.stack([output.float() for output in outputs])
        if not self.widths:
            return stacked.mean(0)
        parts = torch.split(stacked, self.widths, dim=2)
        return torch.cat([part.contiguous().mean(0) for part in parts], dim=1)
