"""Windows around spots: cut from a slide, resized and normalised on the device that computes.

The patch of P pixels around a spot at (x, y) covers the columns ``floor(x - P/2 + 0.5)`` up to
P further, exclusive, and the rows likewise. Beyond the border the slide is mirrored, edge
pixels included (``numpy.pad(mode="symmetric")``), on all sides alike, so that a spot stays the
centre of its patch. Patches are resized as uint8, antialiased, and only then divided by 255.
Of a large slide they are cut from the coarsest level that has the pixels that a network takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize.resize import resize_exact
from histoboost.slides.images.base import SlideImage


def mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Where each index lies after mirroring at both ends of an axis, edge included.

    ``-1`` becomes 0 and `size` becomes ``size - 1``; any distance is allowed, so a patch may be
    larger than the slide.
    """
    wrapped = index % (2 * size)
    return np.minimum(wrapped, 2 * size - 1 - wrapped)


def crop(
    image: SlideImage, starts: NDArray[np.int64], side: int, level: int = 0
) -> NDArray[np.uint8]:
    """Cut the patches that begin at `starts`, (B, 2), out of one level of a slide.

    Returns
    -------
    ndarray of shape (B, side, side, 3), uint8
    """
    out = np.empty((len(starts), side, side, 3), np.uint8)
    height, width, _ = image.levels[level]
    for patch, (column, row) in zip(out, starts.tolist(), strict=True):
        if 0 <= column <= width - side and 0 <= row <= height - side:
            patch[:] = image.read_region(level, column, row, side, side)
        else:
            columns = mirrored(column + np.arange(side), width)
            rows = mirrored(row + np.arange(side), height)
            left, top = int(columns.min()), int(rows.min())
            wide, tall = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
            region = image.read_region(level, left, top, wide, tall)
            patch[:] = region[(rows - top)[:, None], columns - left]
    return out


def on_device(cut: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Patches (B, P, P, 3) as (B, 3, P, P) uint8, channels_last, where they are to be computed."""
    patches = torch.from_numpy(cut)
    if device.type != "cpu":
        # From pinned memory the copy runs beside what the device is computing.
        patches = patches.pin_memory().to(device, non_blocking=True)
    return patches.permute(0, 3, 1, 2)


def resize(patches: Tensor, px: int | None, interpolation: str = "bilinear") -> Tensor:
    """Antialiased resize of (B, 3, P, P) uint8 to `px` pixels a side; None leaves them.

    `interpolation` is ``bilinear`` or ``bicubic``; rounded to uint8 as torchvision does.
    """
    if px is None or patches.shape[-1] == px:
        return patches
    if patches.device.type != "cpu":
        return resize_exact(patches, px, interpolation)
    return torch.nn.functional.interpolate(
        patches, size=(px, px), mode=interpolation, antialias=True, align_corners=False
    )


def normalise(patches: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(patches / 255 - mean) / std`` per channel, float32, channels_last."""
    scale = 255.0 * torch.tensor(std, device=patches.device).view(3, 1, 1)
    offset = torch.tensor(mean, device=patches.device) / torch.tensor(std, device=patches.device)
    floats = patches.to(torch.float32, memory_format=torch.channels_last)
    return floats.div_(scale).sub_(offset.view(3, 1, 1))


def flat(patches: Tensor) -> Tensor:
    """Which patches have no variance: one flat colour, to within one grey level; (B,) bool."""
    # A lattice of pixels tells: looking at all of them would take longer than the resize.
    step = max(1, patches.shape[-1] // 56)
    values = patches[:, :, ::step, ::step].flatten(2)
    return ((values.amax(2) - values.amin(2)) <= 1).all(1)
