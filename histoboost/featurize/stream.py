"""From the pixels of a slide to batches of patches, cut by several threads ahead of the network.

All patch sizes of a slide go through one stream: after the resize they have the same shape and
share batches, so that only the last batch of a slide is short.
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

#: Pixels of patches that are cut for one batch, whatever its size; where patches are not resized,
#: a network that works on them with floats gets a quarter.
BATCH_PIXELS = {"cpu": 2**24, "cuda": 2**26}

#: Side of the squares of a large slide that are gone through one after another, in pixels.
SQUARE = 1024


@dataclass(frozen=True)
class Work:
    """Patches to embed, in their order: side of each and row of its spot, both (K,) int64."""

    px: NDArray[np.int64]
    spot: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.px)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Work:
        return Work(self.px[part], self.spot[part])


@dataclass(frozen=True)
class Cut:
    """Patches as they were cut, by their side in pixels of the slide, (B, P, P, 3) uint8 each."""

    work: Work
    pieces: dict[int, NDArray[np.uint8]]
    input_px: int | None
    interpolation: str

    def batch(self, rows: slice, device: torch.device) -> Tensor:
        """Some of them on a device, all of one shape, (B, 3, side, side) uint8, channels_last."""
        out: Tensor | None = None
        px = self.work.px[rows]
        for side in np.unique(px).tolist():
            where = np.flatnonzero(px == side)
            first = int((self.work.px[: rows.start] == side).sum())
            part = patches.on_device(self.pieces[side][first : first + len(where)], device)
            resized = patches.resize(part, self.input_px, self.interpolation)
            if len(where) == len(px):
                return resized
            if out is None:
                out = torch.empty((len(px), *resized.shape[1:]), dtype=torch.uint8, device=device)
                out = out.to(memory_format=torch.channels_last)
            out[torch.from_numpy(where).to(device)] = resized
        assert out is not None
        return out


class PatchStream:
    """Cuts the patches of a slide in batches, and resizes them on the device of an engine.

    `missing` holds for each side in pixels the row ranges of spots still to embed, `xy` the spot
    centres, (N, 2); patches are resized to `input_px`, unless that is None, by `interpolation`.
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
        """Chunk by chunk, so that chunks are complete early; in them by place on a large slide."""
        parts = [(px, part) for px, of_px in missing.items() for part in of_px]
        sizes = [part.stop - part.start for _, part in parts]
        px, chunk = (
            np.repeat(np.array(values, np.int64), sizes)
            for values in ([px for px, _ in parts], [part.start for _, part in parts])
        )
        spot = np.concatenate([np.arange(0), *(np.arange(p.start, p.stop) for _, p in parts)])
        place = np.zeros((3, len(spot)), np.int64)
        if not isinstance(self._image, ArrayImage):
            square = (xy[spot] // SQUARE).astype(np.int64)
            place = np.stack([xy[spot, 1].astype(np.int64), square[:, 0], square[:, 1]])
        keys = (*place, chunk) if self._input_px else (*place, px, chunk)
        return Work(px, spot)[np.lexsort(keys)]

    def cut(self, engine: Engine) -> Generator[Cut, None, None]:
        """The patches of a batch at a time, in order, of as many as the engine takes by then."""
        threads = joblib.cpu_count()
        return in_order(self._cut, self._parts(engine), threads=threads, ahead=threads + 1)

    def _parts(self, engine: Engine) -> Iterator[Work]:
        """The work in parts of a batch each; of one side where patches are not resized."""
        mixed = self._input_px is not None
        most = BATCH_PIXELS[engine.device.type] // (1 if mixed else 4)
        area = {px: window.side**2 for px, window in self._windows.items()}
        done = 0
        while done < len(self.work):
            part = self.work[done : done + engine.batch]
            pixels = np.cumsum([area[px] for px in part.px.tolist()])
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
