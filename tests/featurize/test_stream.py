"""Batches of patches: each patch once, in an order that completes chunks and follows the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histoboost.featurize import patches
from histoboost.featurize.stream import PatchStream
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.tile_cache import TileCache
from histoboost.spots import window_starts

HEIGHT, WIDTH = 300, 50
PIXELS = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
XY = np.random.default_rng(2).random((60, 2)) * [WIDTH, HEIGHT]
XY[:4] = [[0, 0], [WIDTH, HEIGHT], [0, HEIGHT], [WIDTH, 0]]
MISSING = {8: [slice(0, 25), slice(50, 60)], 33: [slice(0, 25), slice(25, 50), slice(50, 60)]}
CPU = torch.device("cpu")
IMAGES = {"in memory": ArrayImage(PIXELS), "in tiles": TileCache(ArrayImage(PIXELS))}


class Engine:
    device = CPU

    def __init__(self, batch: int) -> None:
        self.batch = batch


def pairs(stream: PatchStream) -> list[tuple[int, int]]:
    return list(zip(stream.work.px.tolist(), stream.work.spot.tolist(), strict=True))


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("input_px", [16, None])
def test_every_missing_patch_is_cut_once_and_chunk_by_chunk(kind: str, input_px: int | None):
    stream = PatchStream(IMAGES[kind], XY, MISSING, input_px)
    expected = {(px, s) for px, parts in MISSING.items() for p in parts for s in range(60)[p]}
    assert len(pairs(stream)) == len(set(pairs(stream)))
    assert set(pairs(stream)) == expected
    chunk = np.searchsorted([25, 50], stream.work.spot, side="right")
    assert (np.diff(chunk) >= 0).all()


def test_patches_keep_the_order_of_spots_in_memory_and_go_by_squares_in_tiles():
    stream = PatchStream(ArrayImage(PIXELS), XY, {8: [slice(0, 60)]}, 16)
    np.testing.assert_array_equal(stream.work.spot, np.arange(60))
    xy = np.random.default_rng(3).random((500, 2)) * 5000
    image = TileCache(ArrayImage(np.zeros((5000, 5000, 3), np.uint8)))
    squares = (xy[PatchStream(image, xy, {8: [slice(0, 500)]}, 16).work.spot] // 1024).tolist()
    assert [(y, x) for x, y in squares] == sorted((y, x) for x, y in squares)


def test_a_complete_slide_has_no_work():
    stream = PatchStream(ArrayImage(PIXELS), XY, {8: []}, 16)
    assert len(stream.work) == 0
    assert list(stream.cut(Engine(4))) == []


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_are_of_one_size_only_where_sizes_cannot_mix(size: int):
    stream = PatchStream(ArrayImage(PIXELS), XY, MISSING, None)
    parts = [cut.work for cut in stream.cut(Engine(size))]
    assert all(1 <= len(part) <= size and len(set(part.px.tolist())) == 1 for part in parts)
    assert sum(map(len, parts)) == len(stream.work)


def test_a_batch_of_large_patches_holds_fewer_of_them(monkeypatch):
    monkeypatch.setattr("histoboost.featurize.stream.BATCH_PIXELS", {"cpu": 33 * 33 * 3})
    stream = PatchStream(ArrayImage(PIXELS), XY, {33: [slice(0, 10)], 90: [slice(10, 12)]}, 16)
    sizes = [cut.work.px.tolist() for cut in stream.cut(Engine(8))]
    assert sizes == [[33] * 3] * 3 + [[33], [90], [90]]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_batches_of_any_size_are_the_resized_crops(kind: str, batch: int):
    stream = PatchStream(IMAGES[kind], XY, MISSING, 16)
    for cut in stream.cut(Engine(batch)):
        middle = max(1, len(cut.work) // 2)
        halves = [slice(0, middle), slice(middle, None)][: len(cut.work)]
        parts = [cut.batch(rows, CPU) for rows in halves]
        for patch, px, spot in zip(torch.cat(parts), cut.work.px, cut.work.spot, strict=True):
            starts = window_starts(XY[spot : spot + 1], int(px))
            plain = torch.from_numpy(patches.crop(ArrayImage(PIXELS), starts, int(px)))
            assert torch.equal(patch, patches.resize(plain.permute(0, 3, 1, 2), 16)[0])


def test_an_error_of_a_cropping_thread_is_raised_with_its_batch():
    class Broken(TileCache):
        def read_region(self, *where: int) -> np.ndarray:
            raise OSError("the disk is gone")

    stream = PatchStream(Broken(ArrayImage(PIXELS)), XY, {8: [slice(0, 60)]}, 16)
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream.cut(Engine(4)))
