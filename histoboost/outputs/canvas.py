"""Draw a map on a greyscale slide with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.outputs.tiles import nearest_spot
from histoboost.spots import SpotTable, spot_pitch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Long side of a map in pixels.
_LONG = 700
#: Contrast of the slide under the map, and opacity of the map.
_CONTRAST, _OPACITY = 0.55, 0.8


@dataclass(frozen=True, eq=False)
class Canvas:
    """The part of a slide with spots.

    `thumbnail` is (h, w, 3) uint8, white if unknown, and `spot_of_pixel` the row of the spot at
    each pixel of the map, or -1. `box`, of the map, and `extent`, of the thumbnail, are left,
    right, bottom and top in pixels of the slide.
    """

    box: tuple[float, float, float, float]
    spot_of_pixel: NDArray[np.int32]
    thumbnail: NDArray[np.uint8]
    extent: tuple[float, float, float, float]
    um_per_px: float | None

    @classmethod
    def from_spots(cls, spots: SpotTable) -> Canvas:
        """Fit the canvas to the spots of a slide, with a margin of one pitch."""
        pitch = spot_pitch(spots.xy) or 1.0
        left, top = spots.xy.min(axis=0) - pitch
        right, bottom = spots.xy.max(axis=0) + pitch
        # Titles and colour bars need room: the short side is at least a fifth of the long one.
        short = max(bottom - top, right - left) / 5
        wider, taller = max(0, short - (right - left)) / 2, max(0, short - (bottom - top)) / 2
        left, right, top, bottom = left - wider, right + wider, top - taller, bottom + taller
        side = max(right - left, bottom - top) / _LONG
        shape = math.ceil((bottom - top) / side), math.ceil((right - left) / side)
        spot_of_pixel = nearest_spot(spots.xy, side, shape, (left, top))
        box = extent = (left, right, bottom, top)
        thumbnail = np.full((1, 1, 3), 255, np.uint8)
        if spots.thumbnail is not None and spots.image_shape is not None:
            thumbnail = spots.thumbnail
            extent = (0.0, float(spots.image_shape[1]), float(spots.image_shape[0]), 0.0)
        return cls(box, spot_of_pixel, thumbnail, extent, spots.um_per_px)

    @property
    def ratio(self) -> float:
        """Height over width."""
        left, right, bottom, top = self.box
        return (bottom - top) / (right - left)

    @cached_property
    def _greyscale(self) -> NDArray[np.uint8]:
        """Luminance of the slide with less contrast."""
        grey = self.thumbnail @ np.array([0.299, 0.587, 0.114])
        return np.asarray(255 - (255 - grey) * _CONTRAST, dtype=np.uint8)

    def show_slide(self, axes: Axes) -> None:
        """Draw the slide in pale grey."""
        axes.imshow(self._greyscale, extent=self.extent, cmap="gray", vmin=0, vmax=255)
        self.crop(axes)

    def crop(self, axes: Axes) -> None:
        """Show only the part with spots, without ticks."""
        axes.set(xlim=self.box[:2], ylim=self.box[2:], xticks=[], yticks=[])
        axes.spines[:].set_color("#bbbbbb")

    def show(
        self,
        axes: Axes,
        values: NDArray[Any],
        limits: tuple[float, float],
        colours: str,
        label: Callable[[float], str],
    ) -> None:
        """Colour each spot by a number; `label` formats the ticks of the colour bar."""
        from matplotlib.colors import LinearSegmentedColormap

        scale: Any = colours
        if colours == "novelty":  # grey up to 1, the middle, then orange to red
            parts = [(0, "#f4f4f4"), (0.5, "#9a9a9a"), (0.5, "#f6a54c"), (1, "#7a0403")]
            scale = LinearSegmentedColormap.from_list(colours, parts)
        drawn = self._draw(axes, np.append(values, np.nan)[self.spot_of_pixel], scale, limits)
        bar = axes.inset_axes((1.02, 0.1, 0.045, 0.8))
        ticks = np.linspace(*limits, 3)
        axes.figure.colorbar(drawn, cax=bar, ticks=ticks)
        bar.set_yticklabels([label(float(tick)) for tick in ticks], fontsize=7)
        bar.tick_params(length=2, pad=1.5, width=0.5)
        bar.spines[:].set_visible(False)

    def show_colours(self, axes: Axes, colours: NDArray[np.float64]) -> None:
        """Draw each spot in its own colour, (N, 3), 0 to 1."""
        rgba = np.column_stack([colours, np.full(len(colours), _OPACITY)])
        self._draw(axes, np.vstack([rgba, np.zeros(4)])[self.spot_of_pixel])

    def scale_bar(self, axes: Axes) -> None:
        """Draw a scale bar of a round length below the panel."""
        from matplotlib.lines import Line2D

        style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        style["fontsize"] = 8
        left, right, *_ = self.box
        if self.um_per_px is None:
            axes.annotate("unknown scale", (0, 0), (0, -11), color="#555555", **style)
            return
        um = round_length((right - left) * self.um_per_px * 0.4)
        part = um / self.um_per_px / (right - left)
        bar = Line2D(
            [0, part], [-0.03, -0.03], transform=axes.transAxes, color="black", linewidth=3
        )
        bar.set(clip_on=False, solid_capstyle="butt")
        axes.add_line(bar)
        text = f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"
        axes.annotate(text, (part, -0.03), (4, 0), va="center", **style)

    def _draw(self, axes: Axes, map: NDArray[Any], scale: Any = None, limits: Any = (0, 1)) -> Any:
        return axes.imshow(
            map,
            extent=self.box,
            cmap=scale,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
            alpha=None if map.ndim == 3 else _OPACITY,
        )


def round_length(um: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(um))
    return next(step * power for step in (5, 2, 1) if step * power <= um * (1 + 1e-9))
