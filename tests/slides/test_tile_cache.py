"""Digests of slides, and cached tiles that equal the whole image."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from histoboost.slides import tile_cache as module
from histoboost.slides.images import open_image
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level, SlideImage, bands
from histoboost.slides.tile_cache import OF_FILES, TileCache, levels_cut, read_pixels

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")

SHAPE = (701, 640)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


class TiledImage(SlideImage):
    """An image in tiles that records the regions read."""

    def __init__(self, tile: tuple[int, int] = (16, 32)) -> None:
        self.levels, self.tiles = (Level(*SHAPE),), (tile,)
        self.reads: list[tuple[int, int, int, int]] = []

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.reads.append((x, y, width, height))
        return PIXELS[y : y + height, x : x + width].copy()


def write(path: Path, pixels: np.ndarray = PIXELS, **options: object) -> SlideImage:
    options = {"photometric": "rgb", "metadata": None, "tile": (64, 64), **options}
    tifffile.imwrite(path, pixels, **options)
    return open_image(path)


@pytest.fixture
def _all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)


@pytest.mark.parametrize("tile", [(16, 32), (701, 640), (1, 640)])
def test_a_small_slide_is_read_once_and_identified_by_its_pixels(tile: tuple[int, int]):
    image = TiledImage(tile)
    whole, digest = read_pixels(image)
    assert isinstance(whole, ArrayImage)
    np.testing.assert_array_equal(whole.pixels, PIXELS)
    assert sum(width * height for _, _, width, height in image.reads) == SHAPE[0] * SHAPE[1]
    assert digest == read_pixels(ArrayImage(PIXELS))[1]
    # That of version 0.1.0, so that stores stay valid.
    assert digest == "c426d2878f475153519905ea8d6f45a05a52bd6e70d5190484cf07c70d6998d6"


@pytest.mark.usefixtures("_all_large")
def test_a_large_tiled_slide_is_identified_by_the_bytes_of_its_file(tmp_path: Path):
    image = write(tmp_path / "a.tif")
    digest = read_pixels(image)[1]
    assert digest.startswith(OF_FILES)
    shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif")
    os.utime(tmp_path / "b.tif", (0, 0))
    assert read_pixels(open_image(tmp_path / "b.tif"))[1] == digest
    assert read_pixels(write(tmp_path / "a.tif", PIXELS ^ 1))[1] != digest
    assert read_pixels(image, "known")[1] == "known"


@pytest.mark.usefixtures("_all_large")
def test_a_large_slide_without_tiles_is_identified_by_its_pixels(tmp_path: Path):
    image = write(tmp_path / "a.tif", tile=None, rowsperstrip=7)
    cached, digest = read_pixels(image)
    assert isinstance(cached, TileCache)
    assert digest == module.decoded_digest(ArrayImage(PIXELS))


def test_coarser_levels_are_used_of_large_slides_only(tmp_path: Path, monkeypatch):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        options = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
        file.write(PIXELS, **options)
        file.write(np.ascontiguousarray(PIXELS[::2, ::2]), subfiletype=1, **options)
    image = open_image(tmp_path / "a.tif")
    assert len(image.levels) == 2
    assert levels_cut(image) == read_pixels(image)[0].levels == (Level(*SHAPE),)
    monkeypatch.setattr(module, "SMALL", 0)
    assert levels_cut(image) == read_pixels(image)[0].levels == image.levels


@pytest.mark.parametrize("tile", [(16, 32), (300, 300), (7, 640), (701, 640)])
@pytest.mark.parametrize("budget", [0, 400_000, 10**9])
def test_a_cache_gives_the_regions_of_its_image(tile: tuple[int, int], budget: int):
    cache = TileCache(TiledImage(tile), budget)
    rng = np.random.default_rng(1)
    for _ in range(60):
        x, y = rng.integers(0, SHAPE[1]), rng.integers(0, SHAPE[0])
        width, height = rng.integers(0, SHAPE[1] - x + 1), rng.integers(0, SHAPE[0] - y + 1)
        region = cache.read_region(0, x, y, width, height)
        np.testing.assert_array_equal(region, PIXELS[y : y + height, x : x + width])


def test_a_cache_decodes_a_tile_once_for_all_threads():
    image = TiledImage((256, 256))
    cache = TileCache(image)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: cache.read_region(0, at, at, 100, 100), [*range(0, 500, 5)] * 3))
    assert len(image.reads) == len(set(image.reads))


@pytest.mark.parametrize(("budget", "tiles"), [(100_000, 32), (0, 8)])
def test_a_cache_keeps_no_more_than_its_budget_or_eight_tiles(budget, tiles, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 32)
    cache = TileCache(TiledImage((16, 32)), budget)
    for x in range(0, 600, 30):
        cache.read_region(0, x, 0, 40, 701)
    assert 8 <= len(cache._kept) <= tiles + 1


def test_a_tile_that_fails_is_an_error_for_all_threads_and_is_read_again_later():
    image, fail = TiledImage(), threading.Event()
    read = image.read_region

    def broken(*where: int) -> np.ndarray:
        if not fail.is_set():
            raise OSError("the disk is gone")
        return read(*where)

    image.read_region = broken  # type: ignore[method-assign]
    cache = TileCache(image)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(cache.read_region, 0, 0, 0, 9, 9) for _ in range(8)]
        assert all(isinstance(task.exception(), OSError) for task in tasks)
    fail.set()
    np.testing.assert_array_equal(cache.read_region(0, 0, 0, 9, 9), PIXELS[:9, :9])


@pytest.mark.parametrize("multiple", [1, 7, 1000])
def test_bands_hold_every_row_once_in_order(multiple: int, monkeypatch):
    monkeypatch.setattr("histoboost.slides.images.base.BAND_BYTES", 100_000)
    found = list(bands(TiledImage(), multiple=multiple))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in found]), PIXELS)
    assert all(top % multiple == 0 for top, _ in found)
