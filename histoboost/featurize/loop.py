"""The embedding loop of one slide, and the thread that writes what it computes.

The main thread crops and runs the network; one other thread waits for results, gathers them into
chunks and writes these. On a GPU both only queue work, and the device never waits for a disk.
"""

from __future__ import annotations

import bisect
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.cache.store import EmbeddingWriter
from histoboost.errors import BadInput, HistoboostWarning
from histoboost.featurize import patches
from histoboost.featurize.engines.base import Engine, Pending
from histoboost.featurize.stream import Bands, PatchStream, Work, plan
from histoboost.progress import Advance
from histoboost.slides.pixels import SlidePixels

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
    """Where the embeddings of one slide and patch size go: chunks, written once complete.

    Attributes
    ----------
    writer : EmbeddingWriter
    missing : list of slice
        Row ranges to compute, from ``writer.missing``.
    width : int
        Columns of the embedding.
    """

    writer: EmbeddingWriter
    missing: list[slice]
    width: int
    _open: dict[int, tuple[NDArray[np.float32], int]] = field(default_factory=dict)

    def add(self, spots: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Take rows of the embedding in; write the chunks that they complete."""
        starts = [part.start for part in self.missing]
        chunk = np.array([bisect.bisect_right(starts, spot) - 1 for spot in spots.tolist()])
        for number in np.unique(chunk).tolist():
            part, own = self.missing[number], chunk == number
            empty = (np.empty((part.stop - part.start, self.width), np.float32), 0)
            values, filled = self._open.pop(number, empty)
            values[spots[own] - part.start] = rows[own]
            filled += int(own.sum())
            if filled == len(values):
                self.writer.write(part, values)
            else:
                self._open[number] = (values, filled)

    def publish(self) -> None:
        """Make the embedding visible."""
        self.writer.publish()


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
    pixels: SlidePixels,
    xy: NDArray[np.float64],
    sinks: dict[int, Sink],
    engine: Engine,
    input_px: int | None,
    writing: WriterThread,
    clock: Clock,
    advance: Advance,
) -> int:
    """Embed what is missing of one slide, all patch sizes in one pass.

    Parameters
    ----------
    slide : str
        Name of the slide, for messages.
    pixels : SlidePixels
        Its pixels.
    xy : ndarray of shape (N, 2), float64
        Where patches are cut, in pixels.
    sinks : dict of int to Sink
        For each patch size in pixels, where its embedding goes.
    engine : Engine
        The network.
    input_px : int or None
        Side of the network's input.
    writing : WriterThread
        Writes what is computed.
    clock : Clock
        Takes the time.
    advance : callable
        Told how many patches are done.

    Returns
    -------
    int
        Number of patches embedded.

    Raises
    ------
    HistoboostError
        If not even one patch fits into the device's memory.
    """
    bands = Bands(pixels, engine.device)
    work = plan(
        {px: sink.missing for px, sink in sinks.items()},
        xy,
        pixels.height,
        banded=bands.max_rows < pixels.height,
        mixed=input_px is not None,
    )
    stream = PatchStream(bands, pixels.height, xy, sinks, input_px)
    flat: list[tuple[Work, Tensor]] = []
    done = 0
    with _threads(engine.crop_threads):
        while done < len(work):
            part = work.batch(done, engine.batch, mixed=input_px is not None)
            try:
                with clock("crop"):
                    batch = stream.batch(part)
                    flat.append((part, patches.flat(batch)))
                with clock("forward"):
                    pending = engine.submit(batch)
            except torch.OutOfMemoryError as error:
                _halve(engine, slide, error)
                continue
            with clock("forward"):  # where the queue is full, the network is what it waits for
                writing.put(_collect(pending, part, sinks))
            done += len(part)
            advance(len(part))
    _warn_flat(slide, flat)
    return len(work)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads of this one for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _collect(pending: Pending, part: Work, sinks: dict[int, Sink]) -> Callable[[], None]:
    def collect() -> None:
        rows = pending()
        for px in np.unique(part.px).tolist():
            own = part.px == px
            sinks[px].add(part.spot[own], rows[own])

    return collect


def _halve(engine: Engine, slide: str, error: torch.OutOfMemoryError) -> None:
    if engine.batch == 1:
        raise BadInput(
            f"slide {slide}: not even one patch fits into the memory of {engine.device}; "
            "use a smaller backbone, or --device cpu"
        ) from error
    warnings.warn(
        f"{engine.batch} patches at once do not fit into the memory of {engine.device}; "
        f"going on with {engine.batch // 2}",
        HistoboostWarning,
        stacklevel=3,
    )
    engine.batch //= 2
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()


def _warn_flat(slide: str, seen: list[tuple[Work, Tensor]]) -> None:
    if not seen:
        return
    flat = torch.cat([hits for _, hits in seen]).cpu().numpy()
    sides = np.concatenate([part.px for part, _ in seen])
    for px in np.unique(sides[flat]).tolist():
        warnings.warn(
            f"slide {slide}: {flat[sides == px].sum()} of {(sides == px).sum()} patches of {px} px "
            "are one flat colour; check that the image is not blank and the spots lie on the "
            "tissue",
            HistoboostWarning,
            stacklevel=3,
        )
