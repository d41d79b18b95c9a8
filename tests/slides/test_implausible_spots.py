"""Implausible spots: inspect, align and featurize report them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostWarning
from histoboost.phantom import phantom_slide
from histoboost.slides.align.apply import alignment_of
from histoboost.slides.align.estimate import Alignment, align
from histoboost.slides.inspect import inspect
from histoboost.slides.slide import Dataset, Slide


@pytest.fixture(scope="module")
def slide() -> Slide:
    return phantom_slide("S_1", seed=8000)


def with_rows(slide: Slide, rows: slice, value: object) -> np.ndarray:
    xy = slide.xy.copy()
    xy[rows] = value
    return xy


CASES = {
    "array indices": (
        lambda slide: np.round(slide.xy / 12.5),
        ("corner", "all spots lie in the upper left corner"),
    ),
    "of a smaller image": (lambda s: s.xy * 0.3, ("corner", "pixels of a smaller image")),
    "filled with 0": (
        lambda s: with_rows(s, slice(10, 15), 0),
        ("same-place", "5 of .* x = 0, y = 0; missing coordinates read as 0"),
    ),
    "two in one place": (
        lambda s: with_rows(s, slice(3, 4), s.xy[7]),
        ("same-place", "2 of .* spots share their position"),
    ),
    "a few pixels apart": (
        lambda s: np.array(s.image.shape[::-1]) / 2 + s.xy * 0.1,
        ("pitch", "the spots lie 2.5 px apart"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_inspect_and_featurize_report_them(slide: Slide, case: str):
    make, (kind, message) = CASES[case]
    bad = replace(slide, xy=make(slide))
    problems = inspect(Dataset(Path("x.h5"), [bad]))["problems"]
    assert [p["kind"] for p in problems if p["kind"] != "misaligned"] == [kind]
    for choice in ("none", Alignment("S_1")):
        with pytest.warns(HistoboostWarning, match=f"slide S_1: .*{message}"):
            alignment_of(bad, choice)
    if kind != "same-place":
        assert message in align(bad).reason or kind == "corner"
        assert not align(bad).changes


def test_spots_over_a_tiny_share_of_the_tissue_give_a_warning():
    slide = phantom_slide("S_1", seed=1, spots=1000, pitch_px=10)
    centre = slide.xy.mean(axis=0)
    near = np.argsort(np.hypot(*(slide.xy - centre).T))[:22]
    few = slide.only(np.isin(np.arange(len(slide.xy)), near))
    with pytest.warns(HistoboostWarning, match="cover only .* of the tissue"):
        alignment_of(few, "none")
    (problem,) = inspect(Dataset(Path("x.h5"), [few]))["problems"]
    assert "of the tissue; their" in problem["message"]
