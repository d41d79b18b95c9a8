"""The embedding loop of one slide, and the thread that writes what it computes.

Threads cut patches ahead, the main thread resizes them and runs the network; one other thread waits
for results, gathers them into chunks and writes these. On a GPU both only queue work, and the
device never waits for a disk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.cache.store import EmbeddingWriter
from histoboost.errors import BadInput, warn
from histoboost.featurize import patches
from histoboost.featurize.engines.base import Engine, Pending
from histoboost.featurize.stream import PatchStream, Work
from histoboost.progress import Advance
from histoboost.slides.images.base import SlideImage

#: Batches that may wait for the writing thread; with the two of an engine this bounds memory.
WAITING = 4


class Clock:
    """Seconds that the main thread spends in each step; what runs beside it costs nothing."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("read", "crop", "forward", "write"), 0.0)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Add the time until the end of the block to `step`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start


@dataclass
class Sink:
    """Where one embedding of one slide goes: chunks, written once complete.

    `missing` are the row ranges to compute, in order, and `columns` what it takes of the engine's
    output; `what` names it in messages; `blank` is whether all its patches are flat, `published`
    whether nothing more comes.
    """

    writer: EmbeddingWriter
    missing: list[slice]
    columns: slice
    what: str = ""
    blank: bool = False
    published: bool = False
    _open: dict[int, tuple[NDArray[np.float32], int]] = field(default_factory=dict)
    _range: NDArray[np.float32] | None = None  # lowest and highest number of every column

    def add(self, spots: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Take rows of the engine's output in; write the chunks that they complete."""
        starts, stops = np.array([(part.start, part.stop) for part in self.missing] or [(0, 0)]).T
        chunk = np.searchsorted(starts, spots, side="right") - 1
        chunk[spots >= stops[chunk]] = -1  # stored already
        for number in np.unique(chunk[chunk >= 0]).tolist():
            part, own = self.missing[number], chunk == number
            added = rows[own, self.columns]
            empty = (np.empty((part.stop - part.start, added.shape[1]), np.float32), 0)
            values, filled = self._open.pop(number, empty)
            values[spots[own] - part.start] = added
            filled += len(added)
            if filled < len(values):
                self._open[number] = (values, filled)
                continue
            self.writer.write(part, values)
            low, high = values.min(0), values.max(0)
            if self._range is not None:
                low, high = np.minimum(low, self._range[0]), np.maximum(high, self._range[1])
            self._range = np.stack([low, high])

    def publish(self) -> None:
        """Make the embedding visible."""
        self.writer.publish()
        self.published = True

    def warn_if_lost(self) -> None:
        """Warn where all spots are alike, or differ by less than float16 can tell apart."""
        spots = sum(part.stop - part.start for part in self.missing)
        if self._range is None or spots < 2 or self.blank:
            return
        vary = self._range[0] < self._range[1]
        half = self._range.astype(np.float16)
        lost = vary & (half[0] == half[1])
        if not vary.any():
            warn(
                f"{self.what}: all {spots} spots have the same numbers; check the weights, and "
                "that the slide is not blank"
            )
        elif lost.sum() > len(lost) / 2:
            warn(
                f"{self.what}: {lost.sum()} of its {len(lost)} columns vary by less than float16 "
                f"holds (largest number {np.abs(self._range).max():.1e}) and are stored as "
                "constants; scale the output of the network"
            )


class WriterThread:
    """One thread that does the slow part of the work in the order in which it is given.

    An error there is raised in the main thread at the next `put`, or at the end.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="histoboost-writer", daemon=True)
        self._thread.start()

    def put(self, task: Callable[[], None]) -> None:
        """Do `task` after all that were put before."""
        self._raise()
        self._queue.put(task)

    def finish(self) -> None:
        """Wait until all is done."""
        self.stop()
        self._raise()

    def stop(self) -> None:
        """Wait until all is done; raises nothing."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            # After an error the queue is emptied, so that the main thread never waits in vain.
            if not self._failed:
                try:
                    task()
                except BaseException as error:  # noqa: BLE001  (raised in the main thread)
                    self._error, self._failed = error, True

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def embed_patches(
    slide: str,
    image: SlideImage,
    xy: NDArray[np.float64],
    sinks: Mapping[int, Sequence[Sink]],
    engine: Engine,
    input_px: int | None,
    writing: WriterThread,
    clock: Clock,
    advance: Advance,
    interpolation: str = "bilinear",
) -> int:
    """Embed what is missing of one slide, all patch sizes and layers in one pass.

    Patches are cut at `xy`, (N, 2), in pixels; `sinks` holds for each patch size in pixels where
    its embeddings go. They are resized to `input_px`, where it is given, by `interpolation`.
    Returns the number of patches embedded.
    """
    missing = {
        px: {part.start: part for sink in of_px for part in sink.missing}.values()
        for px, of_px in sinks.items()
    }
    stream = PatchStream(image, xy, missing, input_px, interpolation)
    flat: list[tuple[Work, Tensor]] = []
    with _threads(engine.crop_threads), closing(stream.cut(engine)) as cuts:
        while True:
            with clock("crop"):
                cut = next(cuts, None)
            if cut is None:
                break
            done = 0
            while done < len(cut.work):
                rows = slice(done, min(done + engine.batch, len(cut.work)))
                try:
                    with clock("crop"):
                        batch = cut.batch(rows, engine.device)
                        blank = patches.flat(batch)
                    with clock("forward"):
                        pending = engine.submit(batch)
                except torch.OutOfMemoryError as error:
                    _halve(engine, slide, error)
                    continue
                part = cut.work[rows]
                flat.append((part, blank))
                with clock("forward"):  # where the queue is full, the network is what it waits for
                    writing.put(_collect(pending, part, sinks))
                done = rows.stop
                advance(len(part))
    _warn_flat(slide, flat, sinks)
    return len(stream.work)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads of this one for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _collect(
    pending: Pending, part: Work, sinks: Mapping[int, Sequence[Sink]]
) -> Callable[[], None]:
    def collect() -> None:
        rows = pending()
        for px in np.unique(part.px).tolist():
            own = part.px == px
            for sink in sinks[px]:
                sink.add(part.spot[own], rows[own])

    return collect


def _halve(engine: Engine, slide: str, error: torch.OutOfMemoryError) -> None:
    if engine.batch == 1:
        raise BadInput(
            f"slide {slide}: not even one patch fits into the memory of {engine.device}; "
            "use a smaller backbone, or --device cpu"
        ) from error
    warn(
        f"{engine.batch} patches at once do not fit into the memory of {engine.device}; "
        f"continuing with {engine.batch // 2}"
    )
    engine.batch //= 2
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()


def _warn_flat(
    slide: str, seen: list[tuple[Work, Tensor]], sinks: Mapping[int, Sequence[Sink]]
) -> None:
    if not seen:
        return
    flat = torch.cat([hits for _, hits in seen]).cpu().numpy()
    sides = np.concatenate([part.px for part, _ in seen])
    for px in np.unique(sides[flat]).tolist():
        own = flat[sides == px]
        for sink in sinks[px]:
            sink.blank = bool(own.all())
        warn(
            f"slide {slide}: {own.sum()} of {len(own)} patches of {px} px "
            "are one flat colour; check that the image is not blank and the spots lie on the "
            "tissue"
        )
