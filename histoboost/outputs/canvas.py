"""The slide in grey with a map on it, drawn by matplotlib."""

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
#: How much of the slide's grey is left under the map, and how opaque the map is.
_PALE, _OPAQUE = 0.55, 0.8


@dataclass(frozen=True, eq=False)
class Canvas:
    """The part of a slide that carries spots.

    `box` is left, right, bottom and top in pixels of the slide, and `extent` that of `colour`, (h,
    w, 3) uint8: the slide in small, white where it is not known. `belongs` is the row of the spot
    of every pixel of the map, -1 where there is none.
    """

    box: tuple[float, float, float, float]
    belongs: NDArray[np.int32]
    colour: NDArray[np.uint8]
    extent: tuple[float, float, float, float]
    um_per_px: float | None

    @classmethod
    def of(cls, spots: SpotTable) -> Canvas:
        """For the spots of a slide, with a pitch of room around them."""
        pitch = spot_pitch(spots.xy) or 1.0
        left, top = spots.xy.min(axis=0) - pitch
        right, bottom = spots.xy.max(axis=0) + pitch
        # No thinner than a fifth: titles and bars need room.
        short = max(bottom - top, right - left) / 5
        wider, taller = max(0, short - (right - left)) / 2, max(0, short - (bottom - top)) / 2
        left, right, top, bottom = left - wider, right + wider, top - taller, bottom + taller
        side = max(right - left, bottom - top) / _LONG
        shape = math.ceil((bottom - top) / side), math.ceil((right - left) / side)
        belongs = nearest_spot(spots.xy, side, shape, (left, top))
        colour, extent = np.full((1, 1, 3), 255, np.uint8), (left, right, bottom, top)
        if spots.thumbnail is not None and spots.image_shape is not None:
            colour = spots.thumbnail
            extent = (0.0, float(spots.image_shape[1]), float(spots.image_shape[0]), 0.0)
        return cls((left, right, bottom, top), belongs, colour, extent, spots.um_per_px)

    @property
    def ratio(self) -> float:
        """Height over width."""
        left, right, bottom, top = self.box
        return (bottom - top) / (right - left)

    @cached_property
    def _pale(self) -> NDArray[np.uint8]:
        """Luminance of the slide, nearer to white."""
        grey = self.colour @ np.array([0.299, 0.587, 0.114])
        return np.asarray(255 - (255 - grey) * _PALE, dtype=np.uint8)

    def show_slide(self, axes: Axes) -> None:
        """The slide in pale grey."""
        axes.imshow(self._pale, extent=self.extent, cmap="gray", vmin=0, vmax=255)
        self.cut(axes)

    def cut(self, axes: Axes) -> None:
        """Show the part with the spots, without axes."""
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
        """A number for every spot, and a colour bar whose ticks are labelled by `label`."""
        from matplotlib.colors import LinearSegmentedColormap

        scale: Any = colours
        if colours == "novelty":  # grey up to 1, the middle, then orange to red
            parts = [(0, "#f4f4f4"), (0.5, "#9a9a9a"), (0.5, "#f6a54c"), (1, "#7a0403")]
            scale = LinearSegmentedColormap.from_list(colours, parts)
        drawn = self._draw(axes, np.append(values, np.nan)[self.belongs], scale, limits)
        bar = axes.inset_axes((1.02, 0.1, 0.045, 0.8))
        ticks = np.linspace(*limits, 3)
        axes.figure.colorbar(drawn, cax=bar, ticks=ticks)
        bar.set_yticklabels([label(float(tick)) for tick in ticks], fontsize=7)
        bar.tick_params(length=2, pad=1.5, width=0.5)
        bar.spines[:].set_visible(False)

    def show_colours(self, axes: Axes, colours: NDArray[np.float64]) -> None:
        """A colour (red, green and blue, 0 to 1) for every spot."""
        rgba = np.column_stack([colours, np.full(len(colours), _OPAQUE)])
        self._draw(axes, np.vstack([rgba, np.zeros(4)])[self.belongs])

    def scale_bar(self, axes: Axes) -> None:
        """A bar of a round length below the panel, or that the length is not known."""
        from matplotlib.lines import Line2D

        left, right, *_ = self.box
        if self.um_per_px is None:
            axes.annotate(
                "scale not known",
                (0, 0),
                (0, -11),
                xycoords="axes fraction",
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
            return
        um = round_length((right - left) * self.um_per_px * 0.4)
        part = um / self.um_per_px / (right - left)
        bar = Line2D(
            [0, part], [-0.03, -0.03], transform=axes.transAxes, color="black", linewidth=3
        )
        bar.set(clip_on=False, solid_capstyle="butt")
        axes.add_line(bar)
        text = f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"
        axes.annotate(
            text,
            (part, -0.03),
            (4, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            va="center",
        )

    def _draw(self, axes: Axes, map: NDArray[Any], scale: Any = None, limits: Any = (0, 1)) -> Any:
        return axes.imshow(
            map,
            extent=self.box,
            cmap=scale,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
            alpha=None if map.ndim == 3 else _OPAQUE,
        )


def round_length(um: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `um`."""
    power = 10.0 ** math.floor(math.log10(um))
    return next(step * power for step in (5, 2, 1) if step * power <= um * (1 + 1e-9))
