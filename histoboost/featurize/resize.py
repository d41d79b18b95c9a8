"""Antialiased bilinear resize of uint8 patches that is the same, bit for bit, on every device.

On a CPU, PyTorch resizes uint8 in fixed point: first columns, then rows, each rounded to uint8,
with weights of 15 bits (as Pillow does, with fewer bits). On a GPU it can only resize floats,
which differ by a grey level here and there: enough to move an embedding by 1e-3. So the same
fixed-point arithmetic is done here with float matrix products. All their terms are integers below
2^24, which float32 holds exactly (and TF32 multiplies exactly: every factor has 8 bits).

The weights follow ``_compute_index_ranges_int16_weights`` of PyTorch's
``aten/src/ATen/native/cpu/UpSampleKernel.cpp``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def integer_weights(size: int, out: int) -> tuple[NDArray[np.int64], int]:
    """Fixed-point weights of one axis of `size` pixels that becomes `out`, (out, size) int64.

    They are below 2^15, and zero outside the support of the triangle filter; with them comes the
    number of fractional bits.
    """
    scale = size / out
    support = scale if scale >= 1.0 else 1.0
    inverse = 1.0 / scale if scale >= 1.0 else 1.0
    weights = np.zeros((out, size))
    for i in range(out):
        centre = scale * (i + 0.5)
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), size)
        taps = np.arange(first, last)
        values = np.maximum(1.0 - np.abs((taps - centre + 0.5) * inverse), 0.0)
        weights[i, first:last] = values / values.sum()
    largest, precision = float(weights.max()), 0
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < (1 << 15):
        precision += 1
    return np.floor(weights * (1 << precision) + 0.5).astype(np.int64), precision


def resize_exact(patches: Tensor, px: int) -> Tensor:
    """Resize (B, 3, P, P) uint8 to `px` as PyTorch resizes uint8 on a CPU, on any device.

    P may be up to 65,536 times smaller or 256 times larger than `px`.
    """
    high, low, precision = _split_weights(patches.shape[-1], px, str(patches.device))
    columns = patches.float().contiguous()
    narrow = _rounded(columns @ high.T, columns @ low.T, precision).float()
    return _rounded(high @ narrow, low @ narrow, precision)


@lru_cache(maxsize=64)
def _split_weights(size: int, out: int, device: str) -> tuple[Tensor, Tensor, int]:
    """Upper 8 and lower 7 bits of the weights, so that every sum stays below 2^24."""
    weights, precision = integer_weights(size, out)
    taps = int((weights > 0).sum(1).max())
    assert math.log2(127 * 255 * taps) < 24, "patch too large to be resized exactly"
    high, low = np.divmod(weights, 128)
    return (
        torch.from_numpy(high).to(device, torch.float32),
        torch.from_numpy(low).to(device, torch.float32),
        precision,
    )


def _rounded(high: Tensor, low: Tensor, precision: int) -> Tensor:
    total = high.to(torch.int32) * 128 + low.to(torch.int32)
    if precision:
        total = (total + (1 << (precision - 1))) >> precision
    return total.clamp_(0, 255).to(torch.uint8)
