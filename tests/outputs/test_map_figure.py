"""Figure of the slide and maps of its cell types."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from histoboost.outputs.canvas import round_length
from histoboost.outputs.map_figure import map_figure, write_picture
from histoboost.regress.predictions import Prediction


def texts(figure: Figure) -> list[Text]:
    return [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]


def words(figure: Figure) -> str:
    return "\n".join(each.get_text() for each in texts(figure))


def of_types(prediction: Prediction, count: int) -> Prediction:
    names = [f"$type_{i} with a rather long name" for i in range(count)]
    values = np.random.default_rng(0).dirichlet(np.ones(count), len(prediction.spots))
    return replace(prediction, cell_types=tuple(names), values=values)


@pytest.mark.parametrize(
    ("count", "stretch"), [(1, (1, 8)), (3, (8, 1)), (3, (1, 8)), (35, (1, 1)), (35, (8, 1))]
)
def test_no_text_overlaps_or_is_cut_off(mapped, count, stretch):
    spots = replace(mapped[0].spots, xy=mapped[0].spots.xy * stretch, thumbnail=None)
    figure = map_figure(of_types(replace(mapped[0], spots=spots, unlike=True), count))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        (each.get_text(), each.get_window_extent(canvas.get_renderer())) for each in texts(figure)
    ]
    for _, box in boxes:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one!r} overlaps {two!r}"


def test_the_figure_names_types_units_scale_and_novelty(mapped):
    text = words(map_figure(mapped[0]))
    for name in mapped[0].cell_types:
        assert f"\n{name}\n" in text
    assert "\nS_1: predicted share of the spot\n30 spots, " in text
    assert "of spots are novel" in text
    assert "µm" in text
    assert f"mean {100 * mapped[0].values[:, 0].mean():.0f} %" in text
    assert "do not rely on this map" not in text
    assert "do not rely on this map" in words(map_figure(replace(mapped[0], unlike=True)))


def test_unknown_values_are_not_shown(mapped):
    spots = replace(mapped[0].spots, um_per_px=None, thumbnail=None)
    text = words(map_figure(replace(mapped[0], spots=spots, novelty=None, units="rank-slide")))
    assert "unknown scale" in text
    assert "novelty" not in text
    assert "dominant" not in text


def test_the_file_is_a_png(tmp_path, mapped):
    write_picture(tmp_path / "S_1.png", mapped[0])
    with Image.open(tmp_path / "S_1.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 500


@pytest.mark.parametrize(("um", "bar"), [(1999, 1000), (200, 200), (0.7, 0.5), (999_999, 500_000)])
def test_a_scale_bar_has_a_round_length(um, bar):
    assert round_length(um) == pytest.approx(bar)
