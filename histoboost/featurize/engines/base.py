"""What an engine is: it runs a backbone on a batch of patches.

Engines differ in speed, not in results: all stay within 1e-4 of the plain network in fp32.
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
    """Runs a backbone batch by batch on `device`, where patches are wanted.

    `batch` patches go into a pass; it is lowered where memory runs out. `crop_threads` may crop
    while it runs; None leaves PyTorch's number.
    """

    name: str
    device: torch.device
    batch: int
    crop_threads: int | None

    def submit(self, patches: Tensor) -> Pending:
        """Begin to embed up to `batch` patches, (B, 3, px, px) uint8 on `device`."""
        ...


class DihedralMean(nn.Module):
    """Mean of a network's output over the eight flips and quarter turns of its input."""

    def __init__(self, network: nn.Module, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.network = network
        self.widths = list(widths)  # columns that are averaged apart: their number moves last bits

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
