"""Tissue is found, and unusable parts of it are detected and left out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from histoboost.errors import BadInput
from histoboost.phantom import phantom_slide
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Slide
from histoboost.slides.tissue import block_mean, read_grid
from histoboost.slides.usable_tissue import UsableTissue, find_tissue

PITCH = 25.0


@pytest.fixture(scope="module")
def slide() -> Slide:
    """A phantom with a margin of glass."""
    return phantom_slide(spots=150, seed=1, pitch_px=PITCH)


def _pixels(slide: Slide) -> NDArray[np.uint8]:
    return slide.image.read_rows(0, slide.image.shape[0]).copy()


def _found(pixels: NDArray[np.uint8]) -> UsableTissue:
    return find_tissue(ArrayImage(pixels), PITCH, "S")


def test_true_spots_lie_on_tissue_and_corners_do_not(slide: Slide) -> None:
    found = _found(_pixels(slide))
    corners = np.array([[2.0, 2.0], np.array(slide.image.shape[::-1]) - 3.0])
    assert (found.share_under(slide.xy, 0.55 * PITCH) >= 0.5).mean() > 0.97
    assert not found.share_under(corners, 0.55 * PITCH).any()


def test_a_sound_slide_loses_nothing(slide: Slide) -> None:
    found = _found(_pixels(slide))
    assert sum(cells.sum() for cells in found.left_out.values()) == 0


@pytest.mark.parametrize("ink", [(20, 40, 160), (20, 130, 60), (12, 12, 12)])
def test_a_pen_mark_is_detected(slide: Slide, ink: tuple[int, int, int]) -> None:
    pixels = _pixels(slide)
    middle = len(pixels) // 2
    pixels[middle : middle + 25, 60:-60] = ink
    found = _found(pixels)
    marked = np.array([[pixels.shape[1] / 2, middle + 12.0]])
    assert found.share_under(marked, PITCH / 2) == 0
    assert found.left_out["pen"].any()
    assert "pen" in str(found)


def test_the_blurred_half_of_a_slide_is_detected(slide: Slide) -> None:
    pixels = _pixels(slide)
    half = pixels.shape[1] // 2
    soft = [gaussian_filter(pixels[..., c].astype(float), 4) for c in range(3)]
    pixels[:, :half] = np.stack(soft, axis=2)[:, :half]
    found = _found(pixels)
    left = slide.xy[:, 0] < half - PITCH
    right = slide.xy[:, 0] > half + PITCH
    share = found.share_under(slide.xy, 0.55 * PITCH)
    assert (share[left] < 0.5).mean() > 0.95
    assert (share[right] > 0.5).mean() > 0.9


def test_a_fold_is_detected(slide: Slide) -> None:
    pixels = _pixels(slide)
    middle = len(pixels) // 2
    strip = pixels[middle : middle + 30].astype(float)
    pixels[middle : middle + 30] = 255 * (strip / 255) ** 3
    found = _found(pixels)
    assert found.left_out["fold"][int((middle + 15) / found.cell)].any()


def test_blank_and_fluorescence_images_are_refused() -> None:
    noise = np.random.default_rng(0).integers(238, 243, (200, 240, 3)).astype(np.uint8)
    with pytest.raises(BadInput, match="slide S: no tissue found"):
        _found(noise)
    fluorescence = np.full((200, 240, 3), 10, np.uint8)
    fluorescence[50:80, 50:80, 1] = 200
    with pytest.raises(BadInput, match="slide S: is dark"):
        _found(fluorescence)


@pytest.mark.parametrize("part", [("images.base.BAND_BYTES", 60_000), ("tissue.STRIP", 3)])
def test_the_grid_does_not_depend_on_the_size_of_bands(slide, monkeypatch, part):
    image = ArrayImage(_pixels(slide))
    whole = read_grid(image, 3 * PITCH)
    monkeypatch.setattr(f"histoboost.slides.{part[0]}", part[1])
    other = read_grid(image, 3 * PITCH)
    for field in ("density", "square", "curvature", "black"):
        assert np.array_equal(getattr(whole, field), getattr(other, field)), field


@pytest.mark.parametrize("block", [1, 2, 4, 8, 9, 40])
def test_block_means_equal_those_of_reduceat_to_the_last_bit(block: int) -> None:
    values = np.random.default_rng(0).random((37, 53), np.float32)
    total = values
    for axis in (0, 1):
        total = np.add.reduceat(total, np.arange(0, total.shape[axis], block), axis=axis)
    tall, wide = (np.bincount(np.arange(n) // block) for n in values.shape)
    assert np.array_equal(block_mean(values, block), (total / np.outer(tall, wide)).astype("f4"))
