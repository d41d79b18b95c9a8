"""The exploration page in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from histoboost.report.explore import explore
from histoboost.slides.readers import open_dataset

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path, page):
    path = tmp_path_factory.mktemp("explore") / "explore.html"
    explore(phantom_h5, path)
    page.open(path)
    return page


def test_hovering_shows_the_spot_and_the_value_of_the_chosen_type(explored, phantom_h5):
    slide = open_dataset(phantom_h5)["S_2"]
    explored.select("slide", "S_2")
    explored.select("type", "C3")
    explored.until(lambda: explored.text("#map-title") == "S_2: C3")
    label = explored.hover("map", 5, expect=f"spot {slide.spot_ids[5]}x")
    value = float(label.split("C3")[1])
    assert value == pytest.approx(slide.abundance[5, 2], rel=0.005)
    assert f"spot {slide.spot_ids[5]}" in explored.text("#readout")


def test_arrow_keys_move_between_spots(explored):
    from selenium.webdriver.common.keys import Keys

    def step() -> str:
        explored.js("return document.getElementById('map')").send_keys(Keys.ARROW_RIGHT)
        return explored.text("#readout")

    first = explored.until(step)
    assert explored.until(lambda: step() != first)


def test_a_slide_without_labels_shows_its_spots(explored):
    explored.select("slide", "S_4 (no labels)")
    explored.until(lambda: "no labels" in explored.text("#map-title"))
    assert "C1" not in explored.hover("map", 7, expect="spot 7x")
    explored.select("slide", "S_1")


def test_clicking_a_small_map_selects_its_type(explored):
    explored.select("slide", "S_1")
    explored.js("document.querySelectorAll('#gallery button')[3].click()")
    explored.until(lambda: explored.text("#map-title") == "S_1: C4")
    assert explored.js("return document.getElementById('type').value") == "3"


def test_a_type_of_low_share_is_not_called_absent(explored):
    explored.select("slide", "S_1")
    explored.select("type", "C3")
    explored.until(lambda: explored.text("#map-title") == "S_1: C3")
    explored.until(lambda: "share below 1 % in" in explored.text("#facts"))
    assert "absent" not in explored.text("#facts")
    explored.select("measure", "Sparsity")
    explored.until(lambda: "share of the type is below 1 %" in explored.text("#measure-hint"))


def test_no_button_uploads_the_data(explored):
    buttons = explored.js(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)"
    )
    assert set(buttons) == {"Zoom", "Pan", "Reset axes", "Download plot as a PNG"}


def test_nothing_was_requested_and_the_console_stayed_silent(explored):
    assert explored.requests() == []
    assert explored.errors() == []
