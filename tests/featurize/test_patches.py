"""Patches: their position, their level, and how they are mirrored, resized and normalised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from histoboost.featurize import patches
from histoboost.featurize.level import Window, window
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level
from histoboost.spots import window_starts

SLIDE = np.random.default_rng(3).integers(0, 256, (37, 29, 3), np.uint8)


def padded_patch(slide: np.ndarray, x: float, y: float, px: int) -> np.ndarray:
    """The plain way: pad the whole slide, then slice."""
    margin = px + max(slide.shape)
    padded = np.pad(slide, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    column = int(np.floor(x - px / 2 + 0.5)) + margin
    row = int(np.floor(y - px / 2 + 0.5)) + margin
    return padded[row : row + px, column : column + px]


@given(
    xy=st.lists(st.tuples(st.floats(0, 29), st.floats(0, 37)), min_size=1, max_size=4),
    px=st.integers(1, 90),
)
@settings(max_examples=60, deadline=None)
def test_a_patch_is_a_slice_of_the_symmetrically_padded_slide(xy, px):
    spots = np.array(xy, np.float64)
    out = patches.crop(ArrayImage(SLIDE), window_starts(spots, px), px)
    for patch, (x, y) in zip(out, xy, strict=True):
        np.testing.assert_array_equal(patch, padded_patch(SLIDE, x, y, px))


@pytest.mark.parametrize(
    ("px", "input_px", "expected"),
    [
        (64, 224, (0, 1.0, 64)),
        (447, 224, (0, 1.0, 447)),
        (448, 224, (1, 2.0, 224)),
        (1001, 224, (2, 4.0, 250)),
        (9000, None, (0, 1.0, 9000)),
    ],
)
def test_patches_are_cut_from_the_coarsest_level_with_enough_pixels(px, input_px, expected):
    levels = (Level(10_000, 10_000), Level(5_000, 5_000, 2.0), Level(2_500, 2_500, 4.0))
    assert window(levels, px, input_px) == expected


def test_a_window_of_a_coarser_level_has_the_same_centre_and_a_field_in_recipes():
    coarse = Window(1, 4.0, 10)
    centre = 4 * (coarse.starts(np.array([[402.0, 81.0]]))[0] + 5)
    assert np.abs(centre - [402, 81]).max() <= 2
    assert coarse.recipe() == {"slide_level": {"downsample": 4.0, "patch_px": 10}}
    assert Window(0, 1.0, 64).recipe() == {}


@pytest.mark.parametrize(("px", "first"), [(5, 8), (4, 8), (1, 10)])
def test_a_spot_is_the_centre_of_odd_and_even_patches(px, first):
    assert window_starts(np.array([[10.0, 10.0]]), px).tolist() == [[first, first]]


def test_resize_rounds_as_torchvision_does():
    from torchvision.transforms.v2 import functional

    batch = torch.from_numpy(SLIDE).permute(2, 0, 1)[None, :, :29]
    ours = patches.resize(batch, 48)
    theirs = functional.resize(batch, [48, 48], antialias=True)
    assert (ours.int() - theirs.int()).abs().max() <= 1
    assert patches.resize(batch, 29) is batch
    assert patches.resize(batch, None) is batch


def test_normalise_divides_by_255_once():
    batch = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    out = patches.normalise(batch, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([-2.5, -2.0, -3.0]))
    torch.testing.assert_close(out[1, :, 0, 0], torch.tensor([2.5, 3.0, 7.0]))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_flat_patches_are_found_and_textured_ones_are_not():
    batch = torch.full((3, 3, 8, 8), 200, dtype=torch.uint8)
    batch[0, 1, 2, 2] = 201
    batch[1, 2, 4, 4] = 203
    batch[2] = torch.arange(64, dtype=torch.uint8).view(8, 8)
    assert patches.flat(batch).tolist() == [True, False, False]
