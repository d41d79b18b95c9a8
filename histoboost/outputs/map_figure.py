"""Draw predictions as a figure: the slide and a map of each cell type (PNG)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.io import write_whole
from histoboost.outputs.anndata import without_warnings
from histoboost.outputs.canvas import Canvas
from histoboost.outputs.colours import dominant_types, type_colours
from histoboost.outputs.scales import UNIT_NAMES, is_share, value_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from histoboost.regress.predictions import Prediction

DPI = 150
#: Maximum size of a panel in inches, and magnification of the panels in the first row.
_SIDE, _LARGER = 2.4, 1.6
#: Room around a panel in inches: colour bar, title, gap.
_BAR, _TITLE, _GAP = 0.62, 0.42, 0.12
#: Target aspect ratio, width over height.
_RATIO = 1.3
#: Height and width of an entry in the legend of dominant types, in inches.
_LINE, _ENTRY = 0.16, 2.1


def write_picture(path: Path, prediction: Prediction) -> None:
    """Write `map_figure` as PNG atomically."""
    # The font may lack glyphs of a name.
    save = without_warnings(lambda target: map_figure(prediction).savefig(target, format="png"))
    write_whole(path, save)


def map_figure(prediction: Prediction) -> Figure:
    """Draw the slide, its novelty and dominant types, and one panel per cell type.

    Each type has its own colour scale, from 0 to its 99.5th percentile. Novelty and the scale bar
    are shown if known, dominant types in all units but "rank-slide".
    """
    from matplotlib.figure import Figure

    canvas = Canvas.from_spots(prediction.spots)
    height = min(_SIDE, _SIDE * canvas.ratio)
    width = height / canvas.ratio
    cell = max(width, 0.9) + _BAR + _GAP, height + _TITLE + _GAP
    types = len(prediction.cell_types)
    top = height * _LARGER + _TITLE + 0.45 + _GAP
    step = max(width * _LARGER, 1.7) + _BAR + _GAP
    dominant = dominant_types(prediction)
    lines = int((height * _LARGER + 0.3) / _LINE)
    legend = (lines, 1 if dominant is None or len(set(dominant)) <= lines else 2)
    first = 3 * step - _BAR + legend[1] * _ENTRY
    columns = max(math.floor(first / cell[0]), _columns(types, cell, top))
    rows = math.ceil(types / columns)
    columns = math.ceil(types / rows)
    size = max(first, columns * cell[0]) + 2 * _GAP, 0.75 + top + rows * cell[1] + _GAP
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")

    def panel(left: float, down: float, scale: float = 1) -> Axes:
        """Add axes with this upper left corner, in inches."""
        box = left, size[1] - down - height * scale, width * scale, height * scale
        across, up = size
        axes = figure.add_axes((box[0] / across, box[1] / up, box[2] / across, box[3] / up))
        canvas.show_slide(axes)
        return axes

    _head(figure, prediction, size)
    down = 0.75 + _TITLE
    slide = panel(_GAP, down, _LARGER)
    slide.imshow(canvas.thumbnail, extent=canvas.extent)
    canvas.crop(slide)
    _title(slide, "slide", step)
    canvas.scale_bar(slide)
    left = _GAP + step
    if prediction.novelty is not None:
        axes = panel(left, down, _LARGER)
        _title(axes, "novelty", step, "novel above 1")
        canvas.show(axes, prediction.novelty, (0, 2), "novelty", _number)
        left += step
    if dominant is not None:
        axes = panel(left, down, _LARGER)
        _title(axes, "dominant cell type", step)
        _show_dominant(canvas, axes, prediction, dominant, legend)
    share = is_share(prediction.units)
    label = _percent if share else _number
    for i, name in enumerate(prediction.cell_types):
        row, column = divmod(i, columns)
        axes = panel(_GAP + column * cell[0], 0.75 + top + row * cell[1] + _TITLE)
        values = prediction.values[:, i]
        _title(axes, name, cell[0], f"mean {_percent(values.mean())}" if share else "")
        canvas.show(axes, values, value_range(values, prediction.units), "viridis", label)
    return figure


def _columns(types: int, cell: tuple[float, float], top: float) -> int:
    """Number of panels per row that brings the figure closest to `_RATIO`."""

    def off(columns: int) -> float:
        ratio = columns * cell[0] / (0.75 + top + math.ceil(types / columns) * cell[1])
        return abs(math.log(ratio / _RATIO))

    return min(range(1, types + 1), key=off)


def _head(figure: Figure, prediction: Prediction, size: tuple[float, float]) -> None:
    """Print the slide, the units and how far to trust the map."""
    figure.text(
        _GAP / size[0],
        1 - 0.3 / size[1],
        f"{prediction.slide}: predicted {UNIT_NAMES[prediction.units]}",
        fontsize=15,
        weight="bold",
        parse_math=False,
    )
    facts = f"{len(prediction.spots):,} spots"
    if prediction.novel_share is not None:
        facts += f", {_percent(prediction.novel_share)} of spots are novel"
    if prediction.unlike:
        facts = f"Unlike the training slides: do not rely on this map ({facts})"
    colour = "#b3261e" if prediction.unlike else "#555555"
    figure.text(_GAP / size[0], 1 - 0.53 / size[1], facts, fontsize=10, color=colour)


def _show_dominant(
    canvas: Canvas,
    axes: Axes,
    prediction: Prediction,
    dominant: np.ndarray,
    legend: tuple[int, int],
) -> None:
    """Colour each spot by its dominant type; `legend` is the legend's number of lines, columns."""
    from matplotlib.patches import Patch

    names = prediction.cell_types
    colours = type_colours(names)
    canvas.show_colours(axes, np.array([colours[names[i]] for i in dominant]) / 255)
    counts = np.bincount(dominant, minlength=len(names))
    shown = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    most = legend[0] * legend[1]
    handles = [
        Patch(
            color="#" + bytes(colours[names[i]]).hex(),
            label=f"{_shortened(names[i], 20)}  {_percent(counts[i] / len(dominant))}",
        )
        for i in (shown if len(shown) <= most else shown[: most - 1])
    ]
    if len(shown) > most:
        handles.append(Patch(color="none", label=f"and {len(shown) - most + 1} more"))
    drawn = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.3,
        ncols=legend[1],
        fontsize=7.5,
        frameon=False,
        handlelength=1,
        handleheight=1,
        columnspacing=1,
        title="dominates in % of the spots",
        title_fontsize=7.5,
        alignment="left",
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    digits = 0 if share >= 0.0995 or share == 0 else 1
    return f"{100 * share:.{digits}f} %"


def _title(axes: Axes, name: str, room: float, more: str = "") -> None:
    """Put a title, at most `room` inches wide, and an optional subtitle above a panel."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(more, (0, 1), (0, 3.5), fontsize=7.5, color="#555555", **style)
    text = _shortened(name, int(room / 0.1))
    above = (0, 14 if more else 4)
    axes.annotate(text, (0, 1), above, fontsize=9.5, weight="bold", parse_math=False, **style)


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 8]}...{name[-5:]}"
