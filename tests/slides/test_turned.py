"""Slides mounted another way: pixels and spots turn together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import BadInput
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.turned_slide import TURNS, turned_dataset, turned_slide


@pytest.fixture
def slide() -> Slide:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Slide("S", ArrayImage(image), np.array([(10.0, 8), (30, 20), (52, 33)]), tuple("abc"))


def pixels(slide: Slide) -> np.ndarray:
    return slide.image.read_rows(0, slide.image.shape[0])


@pytest.mark.parametrize("turn", TURNS)
def test_the_patch_around_a_spot_turns_with_it(slide: Slide, turn: str) -> None:
    quarters, mirrored = TURNS[turn]
    turned = turned_slide(slide, turn)
    before, after = pixels(slide), pixels(turned)
    assert after.shape[:2] == turned.image.shape
    for (x, y), (u, v) in zip(slide.xy.astype(int), turned.xy.astype(int), strict=True):
        expected = np.rot90(before[y - 4 : y + 4, x - 4 : x + 4], quarters)
        expected = expected[:, ::-1] if mirrored else expected
        np.testing.assert_array_equal(after[v - 4 : v + 4, u - 4 : u + 4], expected)
    np.testing.assert_array_equal(turned.image.read_rows(7, 21), after[7:21])


def test_an_unknown_turn_is_refused_with_the_choices(slide: Slide) -> None:
    with pytest.raises(BadInput, match="'45': unknown; choose one of 90, 180"):
        turned_dataset(Dataset(Path(), [slide]), "45")
