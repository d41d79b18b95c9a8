"""Choose the level of an image to cut patches from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.base import Level, coarsest
from histoboost.spots import window_starts


class Window(NamedTuple):
    """The level that patches are cut from, its downsample, and their side in its pixels."""

    level: int
    downsample: float
    side: int

    def starts(self, xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """First column and row of the patch of every spot, (N, 2), in pixels of the level."""
        return window_starts(xy / self.downsample, self.side)

    def recipe(self) -> dict[str, Any]:
        """Fields of a recipe: none at full resolution."""
        if self.downsample == 1:
            return {}
        return {"slide_level": {"downsample": self.downsample, "patch_px": self.side}}


def window(levels: Sequence[Level], px: int, input_px: int | None) -> Window:
    """Choose the coarsest level whose patches of `px` pixels still fill the network's `input_px`.

    A network that takes any size (None) gets full resolution.
    """
    if input_px is None:
        return Window(0, 1.0, px)
    number, level = coarsest(levels, lambda one: px / one.downsample >= input_px)
    return Window(number, level.downsample, round(px / level.downsample))
