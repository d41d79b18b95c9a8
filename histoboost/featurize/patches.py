"""Cut patches around spots, resize and normalise them.

The patch of P pixels around a spot at (x, y) starts at column ``floor(x - P/2 + 0.5)``, and rows
likewise. Beyond the border the slide is mirrored, edge pixels included
(``numpy.pad(mode="symmetric")``), so that every spot is at the centre of its patch. Patches are
resized as uint8, antialiased, and only then divided by 255.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.errors import warn
from histoboost.featurize.resize import resize_exact
from histoboost.slides.images.base import SlideImage


def _mirror(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Mirror indices at both ends of an axis of `size`, edge included, as often as needed."""
    wrapped = index % (2 * size)
    return np.minimum(wrapped, 2 * size - 1 - wrapped)


def crop(
    image: SlideImage, starts: NDArray[np.int64], side: int, level: int = 0
) -> NDArray[np.uint8]:
    """Cut the patches that start at `starts`, (B, 2), from a level: (B, side, side, 3) uint8."""
    out = np.empty((len(starts), side, side, 3), np.uint8)
    height, width, _ = image.levels[level]
    for patch, (column, row) in zip(out, starts.tolist(), strict=True):
        if 0 <= column <= width - side and 0 <= row <= height - side:
            patch[:] = image.read_region(level, column, row, side, side)
        else:
            columns = _mirror(column + np.arange(side), width)
            rows = _mirror(row + np.arange(side), height)
            left, top = int(columns.min()), int(rows.min())
            wide, tall = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
            region = image.read_region(level, left, top, wide, tall)
            patch[:] = region[(rows - top)[:, None], columns - left]
    return out


def on_device(cut: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Copy patches (B, P, P, 3) to `device` as (B, 3, P, P) uint8, channels_last."""
    patches = torch.from_numpy(cut)
    if device.type != "cpu":
        # Copies from pinned memory overlap with computation.
        patches = patches.pin_memory().to(device, non_blocking=True)
    return patches.permute(0, 3, 1, 2)


def resize(patches: Tensor, px: int | None, interpolation: str = "bilinear") -> Tensor:
    """Resize (B, 3, P, P) uint8 to `px` pixels a side, antialiased and rounded as in torchvision.

    `interpolation` is ``bilinear`` or ``bicubic``; None for `px` keeps the size.
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
    """Which patches are one flat colour, to within one grey level; (B,) bool."""
    # A grid of pixels suffices: comparing all of them would take longer than the resize.
    step = max(1, patches.shape[-1] // 56)
    values = patches[:, :, ::step, ::step].flatten(2)
    return ((values.amax(2) - values.amin(2)) <= 1).all(1)


def warn_of_flat(slide: str, count: int, total: int, px: int) -> None:
    """Warn that patches of a slide are one flat colour."""
    warn(
        f"slide {slide}: {count} of {total} patches of {px} px are one flat colour; check that the "
        "image is not blank and the spots lie on the tissue"
    )
