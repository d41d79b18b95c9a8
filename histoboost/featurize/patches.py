"""Windows around spots: crop, resize and normalise, on the device that holds the slide.

The patch of P pixels around a spot at (x, y) covers the columns ``floor(x - P/2 + 0.5)`` up to
P further, exclusive, and the rows likewise. Beyond the border the slide is mirrored, edge
pixels included (``numpy.pad(mode="symmetric")``), on all sides alike, so that a spot stays the
centre of its patch. Patches are resized as uint8, antialiased, and only then divided by 255.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize.resize import resize_exact

#: What the recipe of an embedding says about the steps of this module.
BORDER = "symmetric"
RESIZE = {name: f"{name}-antialias-uint8" for name in ("bilinear", "bicubic")}


def window_starts(xy: NDArray[np.float64], px: int) -> NDArray[np.int64]:
    """First column and first row of the patch of every spot, (N, 2) int64.

    `xy` holds the spot centres, x = column and y = row, in pixels. Odd and even sides are both
    exact; a start is negative where the patch reaches beyond the border.
    """
    return np.floor(xy - px / 2 + 0.5).astype(np.int64)


def mirrored(index: Tensor, size: int) -> Tensor:
    """Where each index lies after mirroring at both ends of an axis, edge included.

    ``-1`` becomes 0 and `size` becomes ``size - 1``; any distance is allowed, so a patch may be
    larger than the slide.
    """
    wrapped = index.remainder(2 * size)
    return torch.minimum(wrapped, 2 * size - 1 - wrapped)


def crop(
    rows: Tensor,
    starts: NDArray[np.int64],
    px: int,
    *,
    height: int,
    first_row: int = 0,
    scratch: NDArray[np.uint8] | None = None,
) -> Tensor:
    """Cut the patches that begin at `starts` out of a band of a slide.

    Parameters
    ----------
    rows : Tensor of shape (h, W, 3), uint8
        Rows `first_row` to ``first_row + h`` of the slide, on any device; at least `rows_needed`.
    starts : ndarray of shape (B, 2), int64
        From `window_starts`.
    px : int
        Side of the patches in pixels.
    height : int
        Rows of the whole slide; mirroring happens at its border, never at a band's.
    first_row : int
        Row of the slide that ``rows[0]`` is.
    scratch : ndarray of shape (B or more, px, px, 3), uint8, optional
        On a CPU the patches are put here, so that no fresh pages are touched.

    Returns
    -------
    Tensor of shape (B, 3, px, px), uint8, channels_last, on the device of `rows`
    """
    if rows.device.type == "cpu":
        return _crop_by_slices(rows, starts, px, height, first_row, scratch)
    return _crop_by_gather(rows, starts, px, height, first_row)


def _crop_by_slices(
    rows: Tensor,
    starts: NDArray[np.int64],
    px: int,
    height: int,
    first_row: int,
    scratch: NDArray[np.uint8] | None = None,
) -> Tensor:
    """One copy per patch: on a CPU twice as quick as gathering single pixels."""
    source = rows.numpy()
    width = source.shape[1]
    shape = (len(starts), px, px, 3)
    out = np.empty(shape, np.uint8) if scratch is None else scratch[: len(starts)]
    for patch, (column, row) in zip(out, starts.tolist(), strict=True):
        if 0 <= column <= width - px and 0 <= row <= height - px:
            top = row - first_row
            patch[:] = source[top : top + px, column : column + px]
        else:
            steps = torch.arange(px)
            lines = mirrored(row + steps, height).numpy() - first_row
            columns = mirrored(column + steps, width).numpy()
            patch[:] = source[lines[:, None], columns]
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def _crop_by_gather(
    rows: Tensor, starts: NDArray[np.int64], px: int, height: int, first_row: int
) -> Tensor:
    """All patches in one indexing kernel."""
    corner = torch.from_numpy(np.ascontiguousarray(starts)).to(rows.device, non_blocking=True)
    steps = torch.arange(px, device=rows.device)
    columns = mirrored(corner[:, :1] + steps, rows.shape[1])
    lines = mirrored(corner[:, 1:] + steps, height) - first_row
    return rows[lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rows_needed(
    starts: NDArray[np.int64], px: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last row (exclusive) of the slide that each patch at `starts` touches.

    Mirrored rows lie inside the slide: beyond the upper border row -k is row k - 1, beyond the
    lower one row ``height - 1 + k`` is row ``height - k``.
    """
    top = starts[:, 1]
    bottom = top + px
    first = np.where(bottom > height, np.minimum(top, 2 * height - bottom), top)
    last = np.where(top < 0, np.maximum(bottom, -top), bottom)
    return np.maximum(first, 0), np.minimum(last, height)


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
