"""Stream the patches of a slide in batches, cut by several threads ahead of the network.

All patch sizes share one stream: they have the same shape after the resize, so that only the last
batch of a slide is short.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize import patches
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.level import window
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import SlideImage, in_order

#: Pixels of patches cut for one batch at most; a quarter where patches are not resized, because the
#: network then computes on them in floats.
BATCH_PIXELS = {"cpu": 2**24, "cuda": 2**26}

#: Side of the squares, in pixels, that a large slide is processed in.
SQUARE = 1024


@dataclass(frozen=True)
class Work:
    """Patches to embed, in order: their sides and the rows of their spots, both (K,) int64."""

    px: NDArray[np.int64]
    spot: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.px)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Work:
        return Work(self.px[part], self.spot[part])


@dataclass(frozen=True)
class Cut:
    """Cut patches by their side in pixels of the slide, (B, P, P, 3) uint8 each."""

    work: Work
    pieces: dict[int, NDArray[np.uint8]]
    input_px: int | None
    interpolation: str

    def batch(self, rows: slice, device: torch.device) -> Tensor:
        """Resize some of them on a device: (B, 3, side, side) uint8, channels_last."""
        px = self.work.px[rows]
        resized = {}
        for side in np.unique(px).tolist():
            first = int((self.work.px[: rows.start] == side).sum())
            cut = self.pieces[side][first : first + int((px == side).sum())]
            part = patches.on_device(cut, device)
            resized[side] = patches.resize(part, self.input_px, self.interpolation)
        if len(resized) == 1:
            return resized[int(px[0])]
        shape = (len(px), *resized[int(px[0])].shape[1:])
        out = torch.empty(shape, dtype=torch.uint8, device=device)
        out = out.to(memory_format=torch.channels_last)
        for side, part in resized.items():
            out[torch.from_numpy(np.flatnonzero(px == side)).to(device)] = part
        return out


class PatchStream:
    """Cuts the patches of a slide in batches.

    `xy`, (N, 2), are the spot centres, `missing` the row ranges of spots to embed by patch side in
    pixels. Patches will be resized to `input_px`, unless that is None, by `interpolation`.
    """

    def __init__(
        self,
        image: SlideImage,
        xy: NDArray[np.float64],
        missing: Mapping[int, Iterable[slice]],
        input_px: int | None,
        interpolation: str = "bilinear",
    ) -> None:
        self._image, self._input_px, self._interpolation = image, input_px, interpolation
        self._windows = {px: window(image.levels, px, input_px) for px in missing}
        self._starts = {px: window.starts(xy) for px, window in self._windows.items()}
        self.work = self._plan(xy, missing)

    def _plan(self, xy: NDArray[np.float64], missing: Mapping[int, Iterable[slice]]) -> Work:
        """Order patches by chunk, so that chunks complete early; within one by place on a slide."""
        parts = [(px, p.start, p.stop) for px, ranges in missing.items() for p in ranges]
        sides, starts, stops = np.array(parts, np.int64).reshape(-1, 3).T
        px, chunk = np.repeat([sides, starts], stops - starts, axis=1)
        spot = np.concatenate([np.arange(0), *(np.arange(*p[1:]) for p in parts)])
        place = np.zeros((3, len(spot)), np.int64)
        if not isinstance(self._image, ArrayImage):
            square = (xy[spot] // SQUARE).astype(np.int64)
            place = np.stack([xy[spot, 1].astype(np.int64), square[:, 0], square[:, 1]])
        keys = (*place, chunk) if self._input_px else (*place, px, chunk)
        return Work(px, spot)[np.lexsort(keys)]

    def cut(self, engine: Engine) -> Generator[Cut, None, None]:
        """Cut the work in order, one batch of the engine's current size at a time."""
        threads = joblib.cpu_count()
        return in_order(self._cut, self._parts(engine), threads=threads, ahead=threads + 1)

    def _parts(self, engine: Engine) -> Iterator[Work]:
        """Split the work into batches; of one patch size each if patches are not resized."""
        mixed = self._input_px is not None
        most = BATCH_PIXELS[engine.device.type] // (1 if mixed else 4)
        done = 0
        while done < len(self.work):
            part = self.work[done : done + engine.batch]
            pixels = np.cumsum([self._windows[px].side ** 2 for px in part.px.tolist()])
            part = part[: max(1, int(np.searchsorted(pixels, most, "right")))]
            if not mixed and (part.px != part.px[0]).any():
                part = part[: int((part.px != part.px[0]).argmax())]
            done += len(part)
            yield part

    def _cut(self, work: Work) -> Cut:
        pieces = {}
        for px in np.unique(work.px).tolist():
            starts, (level, _, side) = self._starts[px][work.spot[work.px == px]], self._windows[px]
            pieces[px] = patches.crop(self._image, starts, side, level)
        return Cut(work, pieces, self._input_px, self._interpolation)
