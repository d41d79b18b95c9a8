"""Where patches are cut: a level of the image, and their side in its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import Level, coarsest
from histoboost.spots import window_starts

#: What the recipe of an embedding says about how patches are cut and resized.
BORDER = "symmetric"
RESIZE = {name: f"{name}-antialias-uint8" for name in ("bilinear", "bicubic")}


class Window(NamedTuple):
    """Where patches are cut: a level of the image, its downsample, and their side in its pixels."""

    level: int
    downsample: float
    side: int

    def starts(self, xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """First column and row of the patch of every spot, (N, 2), in pixels of the level."""
        return window_starts(xy / self.downsample, self.side)

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it: nothing at full resolution."""
        if self.downsample == 1:
            return {}
        return {"slide_level": {"downsample": self.downsample, "patch_px": self.side}}


def window(levels: Sequence[Level], px: int, input_px: int | None) -> Window:
    """Where patches of `px` pixels are cut for a network that takes `input_px`.

    From full resolution where it takes any size.
    """
    if input_px is None:
        return Window(0, 1.0, px)
    number, level = coarsest(levels, lambda one: px / one.downsample >= input_px)
    return Window(number, level.downsample, round(px / level.downsample))
