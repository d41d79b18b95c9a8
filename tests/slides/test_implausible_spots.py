"""Spots that cannot be where they are: inspect, align and featurize name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostWarning
from histoboost.phantom import phantom_slide
from histoboost.slides.align.apply import aligned, alignment_of
from histoboost.slides.align.estimate import Alignment, align
from histoboost.slides.checks import implausible_spots
from histoboost.slides.inspect import inspect
from histoboost.slides.slide import Dataset, Slide


@pytest.fixture(scope="module")
def slide() -> Slide:
    return phantom_slide("S_1", seed=8000)


def array_indices(slide: Slide) -> np.ndarray:
    return np.round(slide.xy / 12.5)


def of_a_smaller_image(slide: Slide) -> np.ndarray:
    return slide.xy * 0.3


def filled(slide: Slide) -> np.ndarray:
    xy = slide.xy.copy()
    xy[10:15] = 0
    return xy


def two_at_one_place(slide: Slide) -> np.ndarray:
    xy = slide.xy.copy()
    xy[3] = xy[7]
    return xy


def a_few_pixels_apart(slide: Slide) -> np.ndarray:
    return np.array(slide.image.shape[::-1]) / 2 + slide.xy * 0.1


CASES = pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (array_indices, "corner", "all spots lie in the upper left corner"),
        (of_a_smaller_image, "corner", "pixels of a smaller image"),
        (filled, "same-place", "5 of .* x = 0, y = 0; missing coordinates read as 0"),
        (two_at_one_place, "same-place", "2 of .* spots share their position"),
        (a_few_pixels_apart, "pitch", "the spots lie 2.5 px apart"),
    ],
)


@CASES
def test_inspect_and_featurize_name_them(slide: Slide, make, kind: str, message: str):
    bad = replace(slide, xy=make(slide))
    problems = inspect(Dataset(Path("x.h5"), [bad]))["problems"]
    assert [p["kind"] for p in problems if p["kind"] != "misaligned"] == [kind]
    with pytest.warns(HistoboostWarning, match=f"slide S_1: .*{message}"):
        alignment_of(bad, "none")
    with pytest.warns(HistoboostWarning, match=f"slide S_1: .*{message}"):
        alignment_of(bad, Alignment("S_1"))
    if kind != "same-place":
        assert message in align(bad).reason or kind == "corner"
        assert not align(bad).changes


def test_spots_over_a_tiny_share_of_the_tissue_are_named():
    slide = phantom_slide("S_1", seed=1, spots=1000, pitch_px=10)
    centre = slide.xy.mean(axis=0)
    near = np.argsort(np.hypot(*(slide.xy - centre).T))[:22]
    few = replace(
        slide,
        xy=slide.xy[near],
        spot_ids=tuple(map(str, near)),
        abundance=slide.abundance[near],
    )
    with pytest.warns(HistoboostWarning, match="cover only .* of the tissue"):
        alignment_of(few, "none")
    (problem,) = inspect(Dataset(Path("x.h5"), [few]))["problems"]
    assert "of the tissue; their" in problem["message"]


def test_a_sound_slide_is_not_named(slide: Slide, recwarn):
    assert implausible_spots(slide) == []
    aligned(Dataset(Path("x.h5"), [slide]), "none")
    assert not [one for one in recwarn if one.category is HistoboostWarning]
