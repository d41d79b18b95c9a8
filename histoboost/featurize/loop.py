"""Embed the patches of one slide, and write the results in a separate thread.

Threads cut patches ahead, the main thread resizes them and runs the network, and one more thread
waits for results, collects them into chunks and writes these, so that a GPU never waits for a disk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

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

#: Batches that may queue for the writing thread; with the two of an engine this bounds memory.
WAITING = 4


class Clock:
    """Seconds that the main thread spends in each step; other threads are not counted."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("load", "read", "crop", "forward", "write"), 0.0)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Add the duration of the block to `step`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start


@dataclass
class Sink:
    """Collects one embedding of one slide into chunks, and writes each once it is complete.

    `missing` are the row ranges to compute, in order, `columns` its part of the engine's output,
    `what` its name in messages, `blank` whether all its patches are flat.
    """

    writer: EmbeddingWriter
    missing: list[slice]
    columns: slice
    what: str = ""
    blank: bool = False
    published: bool = False
    _open: dict[int, tuple[NDArray[np.float32], int]] = field(default_factory=dict)
    _range: NDArray[np.float32] | None = None  # lowest and highest value of every column

    def add(self, spots: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add rows of the engine's output, and write the chunks that they complete."""
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
        """Warn if all spots are equal, or differ by less than float16 resolves."""
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
                f"resolves (largest value {np.abs(self._range).max():.1e}) and are stored as "
                "constants; scale the output of the network"
            )


class WriterThread:
    """A thread that runs tasks in order; `put` and `finish` raise the error of a failed one."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="histoboost-writer", daemon=True)
        self._thread.start()

    def put(self, task: Callable[[], None]) -> None:
        """Queue a task."""
        self._raise()
        self._queue.put(task)

    def finish(self) -> None:
        """Wait for all tasks."""
        self.stop()
        self._raise()

    def stop(self) -> None:
        """Wait for all tasks; raises nothing."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._error is None:  # else drop the task, so that the main thread never blocks
                try:
                    task()
                except BaseException as error:  # noqa: BLE001  (raised in the main thread)
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def embed_patches(
    slide: str,
    image: SlideImage,
    xy: NDArray[np.float64],
    sinks: Mapping[int, Sequence[Sink]],
    engine: Engine,
    input_px: int | None,
    interpolation: str,
    writing: WriterThread,
    clock: Clock,
    advance: Advance,
) -> int:
    """Embed the missing patches of one slide, all sizes and layers in one pass, and count them.

    `xy`, (N, 2), are the centres in pixels; `sinks` are listed by patch size in pixels. Patches are
    resized to `input_px`, unless that is None, by `interpolation`.
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
                    _halve_batch(engine, slide, error)
                    continue
                part = cut.work[rows]
                flat.append((part, blank))
                with clock("forward"):  # a full queue waits for the network
                    writing.put(partial(_collect, pending, part, sinks))
                done = rows.stop
                advance(len(part))
    _warn_flat(slide, flat, sinks)
    return len(stream.work)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set PyTorch's number of threads within the block; None leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _collect(pending: Pending, part: Work, sinks: Mapping[int, Sequence[Sink]]) -> None:
    rows = pending()
    for px in np.unique(part.px).tolist():
        own = part.px == px
        for sink in sinks[px]:
            sink.add(part.spot[own], rows[own])


def _halve_batch(engine: Engine, slide: str, error: torch.OutOfMemoryError) -> None:
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
        patches.warn_of_flat(slide, own.sum(), len(own), px)
