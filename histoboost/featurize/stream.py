"""From the pixels of a slide to batches of patches, on the device that computes.

The slide lies on the device as uint8, whole or, beyond a budget, as one band of rows at a time.
All patch sizes of a slide go through one stream: after the resize they have the same shape and
share batches, so that only the last batch of a slide is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize import patches
from histoboost.slides.pixels import SlidePixels

#: Pixels of patches that are cut for one batch, whatever its size; where patches are not resized,
#: a network that works on them with floats gets a quarter.
BATCH_PIXELS = {"cpu": 2**24, "cuda": 2**27}

#: Share of a GPU's free memory that bands of a slide may take.
GPU_SHARE = 0.25


@dataclass(frozen=True)
class Work:
    """Patches to embed, in their order: side of each and row of its spot, both (K,) int64."""

    px: NDArray[np.int64]
    spot: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.px)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Work:
        return Work(self.px[part], self.spot[part])

    def batch(self, first: int, size: int, pixels: int, *, mixed: bool) -> Work:
        """Up to `size` patches of `pixels` in all from `first` on, one at least.

        Unless `mixed`, they have one side.
        """
        part = self[first : first + size]
        part = part[: max(1, int(np.searchsorted(np.cumsum(part.px**2), pixels, "right")))]
        if not mixed and (part.px != part.px[0]).any():
            part = part[: int((part.px != part.px[0]).argmax())]
        return part


def plan(
    missing: Mapping[int, Iterable[slice]],
    xy: NDArray[np.float64],
    height: int,
    *,
    banded: bool,
    mixed: bool,
) -> Work:
    """Order the patches of a slide: chunk by chunk, so that chunks are complete early.

    `missing` holds for each patch size the row ranges still to compute, `xy` the spot centres, (N,
    2). Where the slide is held in bands (`banded`), the patches of a chunk go from top to bottom;
    `mixed` is whether patches of several sizes may share a batch.
    """
    chunks: dict[int, list[tuple[int, slice]]] = {}
    for px, parts in missing.items():
        for part in parts:
            chunks.setdefault(part.start, []).append((px, part))
    sizes, spots = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for _, members in sorted(chunks.items()):
        sides = np.concatenate([np.full(part.stop - part.start, side) for side, part in members])
        spot = np.concatenate([np.arange(part.start, part.stop) for _, part in members])
        if banded:
            tops = np.empty(len(sides), np.int64)
            for side in np.unique(sides).tolist():
                own = sides == side
                starts = patches.window_starts(xy[spot[own]], side)
                tops[own], _ = patches.rows_needed(starts, side, height)
            order = np.argsort(tops, kind="stable") if mixed else np.lexsort((tops, sides))
            sides, spot = sides[order], spot[order]
        sizes.append(sides)
        spots.append(spot)
    return Work(np.concatenate(sizes).astype(np.int64), np.concatenate(spots).astype(np.int64))


class Bands:
    """The rows of a slide on a device, one band at a time.

    A band takes at most `budget` bytes of the device; by default `GPU_SHARE` of what is free on a
    GPU, and what `pixels` was given on a CPU.
    """

    def __init__(
        self, pixels: SlidePixels, device: torch.device, budget: int | None = None
    ) -> None:
        self._pixels = pixels
        self._device = device
        rows = pixels.band_rows
        if budget is None and device.type == "cuda":
            budget = int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
        if budget is not None:
            rows = min(rows, max(1, budget // (3 * pixels.width)))
        self.max_rows = min(rows, pixels.height)
        self._band: Tensor | None = None
        self._first = 0

    def covering(self, first: int, last: int) -> tuple[Tensor, int]:
        """Rows `first` to `last` and what else is held, (h, W, 3); and the row they begin at."""
        held = self._band
        if held is None or first < self._first or last > self._first + len(held):
            del held
            self._band = None  # before the next is loaded, so that never two are held
            stop = min(max(last, first + self.max_rows), self._pixels.height)
            if stop - first <= self.max_rows:  # the last band is as tall as the others
                first = max(0, stop - self.max_rows)
            self._band = self._load(first, stop)
            self._first = first
        assert self._band is not None
        return self._band, self._first

    def _load(self, first: int, last: int) -> Tensor:
        rows = torch.from_numpy(self._pixels.rows(first, last))
        if self._device.type == "cpu":
            return rows
        # From pinned memory the copy runs beside what the device is computing.
        return rows.pin_memory().to(self._device, non_blocking=True)


class PatchStream:
    """Cuts the patches of a slide and resizes them, in batches.

    `height` is that of the slide, `xy` the spot centres, (N, 2), `sizes` the sides of all patches
    that will be asked for; they are resized to `input_px`, unless that is None, by `interpolation`.
    """

    def __init__(
        self,
        bands: Bands,
        height: int,
        xy: NDArray[np.float64],
        sizes: Iterable[int],
        input_px: int | None,
        interpolation: str = "bilinear",
    ) -> None:
        self._bands, self._height, self._input_px = bands, height, input_px
        self._interpolation = interpolation
        self._scratch: dict[int, NDArray[np.uint8]] = {}
        self._starts = {px: patches.window_starts(xy, px) for px in sizes}
        self._rows = {
            px: patches.rows_needed(starts, px, height) for px, starts in self._starts.items()
        }

    def batch(self, work: Work) -> Tensor:
        """The patches of `work`, all of one shape, (B, 3, side, side) uint8, channels_last."""
        parts = list(self._cut(work, np.arange(len(work))))
        if len(parts) == 1 and np.array_equal(parts[0][0], np.arange(len(work))):
            return parts[0][1]
        side = parts[0][1].shape[-1]
        out = torch.empty(
            (len(work), 3, side, side), dtype=torch.uint8, device=parts[0][1].device
        ).to(memory_format=torch.channels_last)
        for where, part in parts:
            out[torch.from_numpy(where).to(out.device)] = part
        return out

    def _cut(
        self, work: Work, where: NDArray[np.int64]
    ) -> Iterable[tuple[NDArray[np.int64], Tensor]]:
        """Pairs of positions in the batch and their patches, one pair per size and band."""
        first = min(int(self._rows[px][0][spot]) for px, spot in self._pairs(work))
        last = max(int(self._rows[px][1][spot]) for px, spot in self._pairs(work))
        if last - first > self._bands.max_rows and len(work) > 1:
            middle = len(work) // 2
            yield from self._cut(work[:middle], where[:middle])
            yield from self._cut(work[middle:], where[middle:])
            return
        rows, top = self._bands.covering(first, last)
        for px in np.unique(work.px).tolist():
            own = np.flatnonzero(work.px == px)
            starts = self._starts[px][work.spot[own]]
            scratch = self._scratch_for(px, len(own))
            cut = patches.crop(
                rows, starts, px, height=self._height, first_row=top, scratch=scratch
            )
            yield where[own], patches.resize(cut, self._input_px, self._interpolation)

    def _scratch_for(self, px: int, count: int) -> NDArray[np.uint8] | None:
        """Room for `count` patches that the resize reads; none where patches stay as they are."""
        if self._input_px in (None, px):
            return None
        if len(self._scratch.get(px, ())) < count:
            self._scratch[px] = np.empty((count, px, px, 3), np.uint8)
        return self._scratch[px]

    def _pairs(self, work: Work) -> Iterable[tuple[int, int]]:
        return zip(work.px.tolist(), work.spot.tolist(), strict=True)
