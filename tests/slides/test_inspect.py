"""Inspect: the content of a dataset, and its problems with their remedies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import BadInput, HistoboostError
from histoboost.slides.checks import check_slide
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level, SlideImage
from histoboost.slides.inspect import inspect
from histoboost.slides.slide import Dataset, Slide
from histoboost.spots import spot_pitch


def slide(**changes: object) -> Slide:
    rng = np.random.default_rng(0)
    xy = np.array([[x, y] for y in range(10, 60, 10) for x in range(10, 90, 10)], float)
    fields = {
        "name": "S_1",
        "image": ArrayImage(rng.integers(0, 256, (60, 90, 3), np.uint8)),
        "xy": xy,
        "spot_ids": tuple(map(str, range(len(xy)))),
        "abundance": rng.random((len(xy), 2)).astype(np.float32),
        "cell_types": ("C1", "C2"),
    }
    return Slide(**{**fields, **changes})


def dataset(*slides: Slide) -> Dataset:
    return Dataset(Path("data.h5"), slides)


def test_a_sound_slide_is_described_and_has_no_problems():
    found = inspect(dataset(slide()))
    assert found["problems"] == []
    assert found["cell_types"] == ["C1", "C2"]
    (only,) = found["slides"]
    expected = {"image_shape": [60, 90, 3], "spots": 40, "labelled": True, "pitch_px": 10.0}
    assert expected.items() <= only.items()
    json.dumps(found, allow_nan=False)
    check_slide(slide())


def moved(x: float, y: float) -> np.ndarray:
    xy = slide().xy.copy()
    xy[7] = x, y
    return xy


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"xy": moved(np.nan, 4)}, "coordinates", "1 of 40 spots .*not finite.*spot 7"),
        ({"xy": moved(np.inf, 4)}, "coordinates", "not finite"),
        ({"xy": moved(-1, 4)}, "outside", "lie outside the image of 90 x 60 px.*spot 7"),
        ({"xy": moved(20, 61)}, "outside", "check that x and y are in its pixels"),
        ({"xy": slide().xy[:, ::-1].copy()}, "outside", "x and y may be swapped"),
        ({"xy": np.zeros((0, 2)), "abundance": np.zeros((0, 2), "f4")}, "no-spots", "no spots"),
        ({"abundance": np.full((40, 2), np.nan, "f4")}, "abundance", "not finite.*column C1"),
    ],
)
def test_spots_that_cannot_be_used_are_a_problem_and_refused(change, kind, message):
    bad = slide(**change)
    (problem,) = [p for p in inspect(dataset(bad))["problems"] if p["kind"] == kind]
    with pytest.raises(HistoboostError, match=f"data.h5: slide S_1: .*{message}") as error:
        check_slide(bad, "data.h5: ")
    assert problem["message"] in str(error.value)


def test_odd_labels_are_reported_but_not_refused():
    odd = np.ones((40, 2), np.float32)
    odd[:, 1] = np.linspace(-1, 1, 40)
    found = inspect(dataset(slide(abundance=odd)))["problems"]
    assert {p["kind"]: p["message"] for p in found} == {
        "negative": "negative abundances in C2",
        "constant": "the same abundance in all spots in C1",
    }
    check_slide(slide(abundance=odd))


def test_labels_that_are_all_0_are_one_problem():
    (problem,) = inspect(dataset(slide(abundance=np.zeros((40, 2), np.float32))))["problems"]
    assert problem["kind"] == "all-zero"
    assert "all its abundances are 0; correct them" in problem["message"]


def test_a_blank_image_is_a_problem():
    blank = ArrayImage(np.ones((60, 90, 3), np.uint8))
    (problem,) = inspect(dataset(slide(image=blank)))["problems"]
    assert problem["kind"] == "flat-image"
    assert "cast to uint8" in problem["message"]


def test_unreadable_pixels_are_a_problem_of_that_slide_only():
    class Broken(SlideImage):
        levels = (Level(60, 90),)
        tiles = ((60, 90),)

        def read_region(self, *where: int) -> np.ndarray:
            raise BadInput("float pixels must lie in 0..1")

    found = inspect(dataset(slide(image=Broken()), slide(name="S_2")))
    assert [p["slide"] for p in found["problems"]] == ["S_1"]
    assert len(found["slides"]) == 2


def test_the_pitch_of_a_single_spot_is_unknown():
    assert spot_pitch(np.array([[1.0, 2.0]])) is None
    assert spot_pitch(np.array([[0.0, 0.0], [3.0, 4.0]])) == 5.0
