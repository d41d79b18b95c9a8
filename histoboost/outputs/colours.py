"""The dominant cell type of each spot, and one colour per type for all maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

Colour = tuple[int, int, int]

# The colour-blind safe palette of Okabe and Ito, then softer colours; also used in the web pages.
_FIRST = (
    *("#1a7fc1", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
    *("#b8a900", "#8d6cc9", "#7f5539", "#4d908e", "#f2849e", "#3f6b2a"),
)
#: Shade of each further dozen of colours, towards white (positive) or black (negative).
_SHADES = (0.0, 0.5, -0.45, 0.75, -0.7)


def dominant_types(prediction: Prediction) -> NDArray[Any] | None:
    """Index of the most abundant type of each spot, (N,) int.

    None in units "rank-slide", which do not compare the types of a spot.
    """
    return None if prediction.units == "rank-slide" else prediction.values.argmax(axis=1)


def type_colours(names: Iterable[str]) -> dict[str, Colour]:
    """Assign a colour, RGB from 0 to 255, to each cell type.

    Colours depend only on the set of names, in alphabetical order. They repeat after 60 types.
    """
    palette = [_shaded(colour, shade) for shade in _SHADES for colour in _FIRST]
    return {name: palette[i % len(palette)] for i, name in enumerate(sorted(set(names)))}


def _shaded(colour: str, shade: float) -> Colour:
    end = 255 if shade > 0 else 0
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    mixed = (round(part + (end - part) * abs(shade)) for part in (red, green, blue))
    return next(mixed), next(mixed), next(mixed)
