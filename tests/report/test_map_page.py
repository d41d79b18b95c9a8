"""The map that `predict -o map.html` writes, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.outputs.map_page import write_map_page
from histoboost.regress.predictions import Prediction
from histoboost.spots import SpotTable

NASTY = "</script><script>document.title='gone'</script>"
TYPES = ("T cell", NASTY, "<img src=x onerror=alert(1)>")


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    """Two slides: one with an image and a scale, one unlike the training slides."""
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(120), 12)
    xy = 20 * (2 + np.stack([column + (row % 2) / 2, row * np.sqrt(0.75)], axis=1))
    ids = tuple(f"BC{i}" for i in range(120))
    picture = np.full((130, 150, 3), 200, np.uint8)
    tables = [
        SpotTable("S_1", xy, ids, um_per_px=0.5, image_shape=(260, 300), thumbnail=picture),
        SpotTable("S <b>2", xy, ids),
    ]
    return [
        Prediction(t, TYPES, rng.dirichlet(np.ones(3), 120), "share", novelty=2 * rng.random(120))
        for t in tables
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, predictions) -> Path:
    path = tmp_path_factory.mktemp("map") / "map.html"
    warnings = ("S <b>2 is unlike the training slides", "pitch <i>differs</i>")
    second = replace(predictions[1], novelty=None, unlike=True, warnings=warnings)
    write_map_page(path, [predictions[0], second])
    return path


@pytest.fixture
def opened(written: Path, page):
    page.open(written)
    return page


def colour_at(opened, k: int) -> list[int]:
    """Colour at the centre of a spot."""
    opened.js(
        "window.done = false; requestAnimationFrame(() => setTimeout(() => window.done = true))"
    )
    opened.until(lambda: opened.js("return window.done"))
    return opened.js(
        """const s = slide(), ratio = window.devicePixelRatio;
        const x = (s.x[arguments[0]] - view.x) * view.scale;
        const y = (s.y[arguments[0]] - view.y) * view.scale;
        return [...pen.getImageData(x * ratio, y * ratio, 1, 1).data.slice(0, 3)];""",
        k,
    )


def opaque(opened, id: str, value: int) -> None:
    opened.js(
        "$(arguments[0]).value = arguments[1]; $(arguments[0]).dispatchEvent(new Event('input'))",
        id,
        value,
    )


def test_the_data_cannot_leave_its_element(written, page_data):
    text = written.read_text(encoding="utf-8")
    assert page_data(written)["types"] == list(TYPES)
    assert "unsafe-eval" not in text
    assert NASTY not in text


@pytest.mark.browser
def test_names_are_shown_as_text(opened):
    opened.select("show", NASTY)
    assert NASTY in opened.text("#heading")
    assert opened.js("return document.title") == "S_1, S <b>2: cell types"
    assert opened.js("return document.querySelectorAll('img, main script, main b b').length") == 0


@pytest.mark.browser
def test_the_values_of_a_spot_are_printed(opened, predictions):
    opened.select("show", "T cell")
    opened.js("point(arguments[0])", 17)
    said = opened.text("#readout")
    value = predictions[0].values[17, 0]
    assert said.startswith("spot BC17; T cell ")
    assert float(said.split("T cell ")[1].split(" %")[0]) == pytest.approx(100 * value, abs=0.51)
    assert f"novelty {predictions[0].novelty[17]:.2f}" in said


@pytest.mark.browser
@pytest.mark.parametrize("close", [False, True])
def test_a_spot_is_painted_in_the_colour_of_its_dominant_type(opened, predictions, close):
    opened.select("show", "Dominant cell type")
    opaque(opened, "opacity", 100)
    opened.js("zoom(arguments[0])", 4 if close else 0.3)
    colours = opened.js("return DATA.colours")
    for k in (53, 54, 65):
        expected = colours[predictions[0].values[k].argmax()]
        assert np.abs(np.subtract(colour_at(opened, k), expected)).max() <= 2


@pytest.mark.browser
def test_the_slide_lies_under_the_map(opened):
    opaque(opened, "opacity", 0)
    assert np.abs(np.subtract(colour_at(opened, 53), 200)).max() <= 3
    opaque(opened, "picture", 0)
    assert colour_at(opened, 53) == [0, 0, 0]  # nothing is painted


@pytest.mark.browser
def test_the_scale_bar_follows_the_zoom(opened):
    def length() -> float:
        number, unit = opened.text("#scalebar span").split()
        pixels = opened.js("return parseFloat($('scalebar').querySelector('i').style.width)")
        um = float(number) * (1000 if unit == "mm" else 1)
        assert um / pixels == pytest.approx(0.5 / opened.js("return view.scale"), rel=0.01)
        return um

    opened.js("paintAll()")
    before = length()
    opened.js("zoom(8); paintAll()")
    assert length() < before


@pytest.mark.browser
def test_arrow_keys_move_between_spots(opened):
    from selenium.webdriver.common.keys import Keys

    canvas = opened.js("return $('map')")
    canvas.send_keys(Keys.ARROW_RIGHT)
    first = opened.text("#readout")
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert "spot" in first
    assert opened.text("#readout") != first


@pytest.mark.browser
def test_each_slide_shows_its_warnings_scale_and_novelty(opened):
    assert opened.js("return $('problems').hidden")
    opened.select("show", "Novelty")
    opened.select("slide", "S <b>2")
    assert "unlike the training slides" in opened.text("#problems")
    assert "pitch <i>differs</i>" in opened.text("#problems")
    assert opened.js("return $('scalebar').hidden")
    assert "Novelty" not in opened.text("#show")


@pytest.mark.browser
def test_nothing_was_requested_and_the_console_stayed_silent(opened):
    assert opened.requests() == []
    assert opened.errors() == []
