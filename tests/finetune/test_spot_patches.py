"""Fields of view equal the patches of stage 1."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from histoboost.errors import HistoboostWarning
from histoboost.featurize import patches
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import SpotPatches, load_pixels, scaled_coords
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Slide
from histoboost.spots import window_starts


def slide(name: str, seed: int, n: int = 9) -> Slide:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    xy = random.uniform([0, 0], [120, 90], (n, 2))
    return Slide(name, ArrayImage(pixels), xy, tuple(map(str, range(n))))


SLIDES = (slide("A", 0), slide("B", 1))


def test_fields_of_view_are_the_patches_of_stage_one_and_coordinates_go_by_slide(
    tiny_net: str,
) -> None:
    backbone = load_backbone(tiny_net, "random")
    settings = Settings(patch=(24, 50), input_px=32)
    pixels = load_pixels(SLIDES, torch.device("cpu"), 24)
    views = SpotPatches(SLIDES, pixels, settings, backbone)
    chosen = np.array([17, 0, 9, 8, 3])  # both slides, out of order, borders included
    got = views.normalise(views.crop(chosen))
    assert got.shape == (5, 2, 3, 32, 32)
    for row, spot in enumerate(chosen):
        one = SLIDES[spot // 9]
        for view, px in enumerate(settings.patch):
            starts = window_starts(one.xy[spot % 9 :][:1], px)
            cut = torch.from_numpy(patches.crop(one.image, starts, px)).permute(0, 3, 1, 2)
            cut = patches.resize(cut, 32)
            expected = patches.normalise(cut, backbone.mean, backbone.std)
            torch.testing.assert_close(got[row, view], expected[0])
    coords = views.coords(np.arange(18)).numpy()
    for part in (coords[:9], coords[9:]):
        np.testing.assert_allclose(part.min(0), 0)
        np.testing.assert_allclose(part.max(0), 1)


def test_spots_on_one_line_have_the_coordinate_zero() -> None:
    scaled = scaled_coords(np.array([[3.0, 5.0], [3.0, 9.0]]))
    np.testing.assert_array_equal(scaled, [[0, 0], [0, 1]])


def test_flat_patches_are_warned_of() -> None:
    blank = ArrayImage(np.full((90, 120, 3), 240, np.uint8))
    slides = (SLIDES[0], dataclasses.replace(SLIDES[1], image=blank))
    with pytest.warns(HistoboostWarning, match="slide B: 9 of 9 patches of 24 px") as caught:
        load_pixels(slides, torch.device("cpu"), 24)
    assert len(caught) == 1
