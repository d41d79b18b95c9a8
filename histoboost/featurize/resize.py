"""Antialiased resize of uint8 patches, identical bit for bit on every device.

On a CPU, PyTorch resizes uint8 in fixed point: first columns, then rows, each rounded to uint8,
with weights of 15 bits. On a GPU it only resizes floats, which differ by a grey level here and
there: enough to move an embedding by 1e-3. Here float matrix products do the same fixed-point
arithmetic: all terms are integers below 2^24, which float32 holds exactly (and TF32 multiplies
exactly: every factor has 8 bits). Pillow's weights have more bits: up to 5 % of the values of an
enlarged patch and 1 % of a shrunk one differ from it by a grey level, two at most.

The weights follow ``_compute_index_ranges_int16_weights`` of PyTorch's
``aten/src/ATen/native/cpu/UpSampleKernel.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution (IEEE Trans. ASSP 29, 1981) with a = -0.5, as in Pillow."""
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights: NDArray[np.float64] = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights


#: Filters by name: half width, and value at a distance.
FILTERS: dict[str, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "bilinear": (1.0, lambda x: np.maximum(1.0 - np.abs(x), 0.0)),
    "bicubic": (2.0, _cubic),
}


def integer_weights(size: int, out: int, interpolation: str) -> tuple[NDArray[np.int64], int]:
    """Fixed-point weights to resize an axis of `size` pixels to `out`, and their fractional bits.

    (out, size) int64, below 2^15.
    """
    scale = size / out
    reach, value = FILTERS[interpolation]
    support, inverse = (reach * scale, 1.0 / scale) if scale >= 1.0 else (reach, 1.0)
    weights = np.zeros((out, size))
    for i in range(out):
        centre = scale * (i + 0.5)
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), size)
        taps = np.arange(first, last, dtype=np.float64)
        values = value((taps - centre + 0.5) * inverse)
        weights[i, first:last] = values / values.sum()
    largest, precision = float(weights.max()), 0
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < (1 << 15):
        precision += 1
    scaled = weights * (1 << precision)  # rounded half away from zero
    return np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64), precision


def resize_exact(patches: Tensor, px: int, interpolation: str = "bilinear") -> Tensor:
    """Resize (B, 3, P, P) uint8 to `px` as PyTorch resizes uint8 on a CPU, on any device.

    P may be up to 65,536 times smaller than `px`, or 256 times larger (bicubic: 128 times).
    """
    high, low, precision = _split_weights(patches.shape[-1], px, interpolation, str(patches.device))
    columns = patches.float().contiguous()
    narrow = _rounded(columns @ high.T, columns @ low.T, precision).float()
    return _rounded(high @ narrow, low @ narrow, precision)


@lru_cache(maxsize=64)
def _split_weights(
    size: int, out: int, interpolation: str, device: str
) -> tuple[Tensor, Tensor, int]:
    """Upper 8 and lower 7 bits of the weights, so that every sum stays below 2^24."""
    weights, precision = integer_weights(size, out, interpolation)
    taps = int((weights != 0).sum(1).max())
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
