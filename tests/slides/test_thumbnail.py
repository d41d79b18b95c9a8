"""Thumbnails of slides."""

from __future__ import annotations

import numpy as np
import pytest

from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level
from histoboost.slides.thumbnail import thumbnail


def plain(pixels: np.ndarray, k: int) -> np.ndarray:
    blocks = [
        [pixels[y : y + k, x : x + k].mean(axis=(0, 1)) for x in range(0, pixels.shape[1], k)]
        for y in range(0, pixels.shape[0], k)
    ]
    return np.round(blocks).astype(np.uint8)


@pytest.mark.parametrize("budget", [256 * 2**20, 40_000])
@pytest.mark.parametrize("shape", [(101, 67), (64, 128), (5, 130)])
def test_every_pixel_is_the_mean_of_its_block(shape, budget, monkeypatch):
    monkeypatch.setattr("histoboost.slides.images.base.BAND_BYTES", budget)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    small = thumbnail(ArrayImage(pixels), long_side=40)
    k = -(-max(shape) // 40)
    assert np.array_equal(small, plain(pixels, k))
    assert max(small.shape) <= 40


def test_a_small_slide_stays_as_it_is():
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(thumbnail(ArrayImage(pixels), long_side=5), pixels)


def test_a_pyramid_is_averaged_from_the_coarsest_level_that_has_the_pixels():
    class Pyramid(ArrayImage):
        def read_region(self, level: int, *where: int) -> np.ndarray:
            assert level == 1
            return super().read_region(0, *where)

    pixels = np.random.default_rng(0).integers(0, 256, (128, 100, 3), dtype=np.uint8)
    image = Pyramid(pixels)
    image.levels = (Level(512, 400), Level(128, 100, 4.0), Level(32, 25, 16.0))
    image.tiles = ((8, 8), (8, 8), (8, 8))
    assert np.array_equal(thumbnail(image, long_side=64), plain(pixels, 2))
