"""The embedding loop: chunks are written once complete, out of memory halves the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histoboost.errors import BadInput, HistoboostError, HistoboostWarning
from histoboost.featurize import patches
from histoboost.featurize.loop import WAITING, Clock, Sink, WriterThread, embed_patches
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level, SlideImage
from histoboost.slides.tile_cache import TileCache
from histoboost.spots import window_starts

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
XY = np.random.default_rng(1).random((30, 2)) * 64


class Recorder:
    """An EmbeddingWriter that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: dict[int, np.ndarray] = {}

    def write(self, rows: slice, array: np.ndarray) -> None:
        assert rows.start not in self.chunks
        self.chunks[rows.start] = array.copy()


class MeanEngine:
    """Embeds a patch as its mean colour; batches above `limit` do not fit into its memory."""

    name = "mean"
    device = torch.device("cpu")
    crop_threads: int | None = None

    def __init__(self, batch: int, limit: int = 1000) -> None:
        self.batch, self.limit = batch, limit
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def submit(self, batch: torch.Tensor):
        if len(batch) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.sizes.append(len(batch))
        self.threads.add(torch.get_num_threads())
        rows = batch.float().mean((2, 3)).numpy()
        return lambda: rows


def run(
    engine: MeanEngine,
    missing: dict[int, list[slice]],
    source: SlideImage | None = None,
    xy: np.ndarray = XY,
) -> dict[int, Recorder]:
    writers = {px: Recorder() for px in missing}
    sinks = {px: [Sink(writers[px], parts, slice(0, 3))] for px, parts in missing.items()}
    writing, source = WriterThread(), source or ArrayImage(PIXELS)
    try:
        embed_patches(
            "S", source, xy, sinks, engine, 16, "bilinear", writing, Clock(), lambda n: None
        )
        writing.finish()
    finally:
        writing.stop()
    return writers


def expected(px: int, part: slice) -> np.ndarray:
    starts = window_starts(XY[part], px)
    cut = torch.from_numpy(patches.crop(ArrayImage(PIXELS), starts, px)).permute(0, 3, 1, 2)
    return patches.resize(cut, 16).float().mean((2, 3)).numpy()


MISSING = {8: [slice(0, 12), slice(24, 30)], 20: [slice(0, 12), slice(12, 24), slice(24, 30)]}


def assert_complete(writers: dict[int, Recorder]) -> None:
    for px, parts in MISSING.items():
        assert sorted(writers[px].chunks) == [part.start for part in parts]
        for part in parts:
            np.testing.assert_array_equal(writers[px].chunks[part.start], expected(px, part))


@pytest.mark.parametrize("batch", [1, 7, 16, 100])
def test_every_missing_chunk_is_written_once_with_its_own_rows(batch: int):
    assert_complete(run(MeanEngine(batch), MISSING))


@pytest.mark.parametrize("crop_threads", [None, 7])
def test_an_engine_sets_the_cropping_threads(crop_threads: int | None):
    engine, before = MeanEngine(16), torch.get_num_threads()
    engine.crop_threads = crop_threads
    run(engine, MISSING)
    assert engine.threads == {crop_threads or before}
    assert torch.get_num_threads() == before


@pytest.mark.filterwarnings("ignore:16 patches at once")
def test_memory_that_runs_out_halves_the_batch_and_loses_nothing():
    engine = MeanEngine(batch=32, limit=9)
    with pytest.warns(HistoboostWarning, match="32 patches at once do not fit.*continuing with 16"):
        writers = run(engine, MISSING)
    assert engine.batch == 8
    assert max(engine.sizes) == 8
    assert_complete(writers)


def test_a_flat_patch_is_counted_once_though_its_batch_is_tried_again(monkeypatch):
    monkeypatch.setitem(globals(), "PIXELS", np.full_like(PIXELS, 7))
    with pytest.warns(HistoboostWarning) as heard:
        run(MeanEngine(batch=32, limit=9), {8: [slice(0, 30)]})
    assert "slide S: 30 of 30 patches of 8 px" in str(heard[-1].message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((5, 4)), "slide S: net@8: all 5 spots have the same numbers"),
        (1e-9 * np.random.default_rng(0).random((5, 4)), "4 of its 4 columns vary by less than"),
        (5000 + np.random.default_rng(0).random((5, 4)), "are stored as constants"),
        (np.random.default_rng(0).random((5, 4)) * [0, 1, 1, 1], None),  # a dead column
        (np.ones((1, 4)), None),
    ],
)
def test_an_embedding_that_says_nothing_is_named(values: np.ndarray, message: str | None, recwarn):
    filled = Sink(Recorder(), [slice(0, len(values))], slice(0, 4), "slide S: net@8")
    filled.add(np.arange(len(values)), values.astype(np.float32))
    filled.warn_if_lost()
    assert [message in str(one.message) for one in recwarn] == [True] * (message is not None)


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_a_single_patch_that_does_not_fit_is_one_line():
    with pytest.raises(HistoboostError, match="not even one patch fits"):
        run(MeanEngine(batch=4, limit=0), MISSING)


def test_an_error_in_the_writing_thread_reaches_the_main_thread_and_blocks_nothing():
    writing = WriterThread()

    def fail() -> None:
        raise BadInput("disk full")

    def put_many() -> None:
        writing.put(fail)
        for _ in range(10 * WAITING):
            writing.put(lambda: None)
        writing.finish()

    with pytest.raises(HistoboostError, match="disk full"):
        put_many()
    writing.stop()
    assert not writing._thread.is_alive()


def test_tasks_are_done_in_order_and_none_after_an_error():
    seen: list[int] = []
    writing = WriterThread()
    for number in range(50):
        writing.put(lambda number=number: seen.append(number))
    writing.put(lambda: 1 / 0)
    writing._queue.put(lambda: seen.append(50))
    with pytest.raises(ZeroDivisionError):
        writing.finish()
    assert seen == list(range(50))


class MadeAsRead(SlideImage):
    """A slide of 3,000 x 3,000 px (27 MB as uint8) whose tiles are computed on reading."""

    levels = (Level(3000, 3000),)
    tiles = ((64, 64),)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        rows, columns = np.arange(y, y + height), np.arange(x, x + width)
        grey = rows.astype(np.uint8)[:, None] * np.uint8(7) + columns.astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


def test_peak_memory_is_that_of_the_tiles_kept_not_of_the_slide_or_its_patches():
    import tracemalloc

    budget = 4 * 2**20
    xy = np.random.default_rng(0).random((400, 2)) * 3000  # 400 patches of 128 px: 20 MB
    tracemalloc.start()
    try:
        source = TileCache(MadeAsRead(), budget)
        writers = run(MeanEngine(batch=8), {128: [slice(0, 400)]}, source, xy)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(writers[128].chunks[0]) == 400
    assert peak < 2 * budget
