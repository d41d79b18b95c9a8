"""Slides as the pages see them, whether they come from a dataset or from a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.featurize.inspect import pitch_px
from histoboost.report.encode import floats, jpeg


@dataclass(frozen=True)
class SlideView:
    """What a page shows of a slide.

    Attributes
    ----------
    name, split, group, um_per_px :
        As in `histoboost.featurize.slide.Slide`.
    xy : ndarray of shape (N, 2)
        Spot centres in pixels of the source image.
    spot_ids : tuple of str
    abundance : ndarray of shape (N, T), or None
    cell_types : tuple of str
    shape : tuple of int
        Height and width of the source image, in pixels.
    picture : ndarray of shape (h, w, 3), uint8, or None
        The slide in small.
    """

    name: str
    xy: NDArray[np.float64]
    spot_ids: tuple[str, ...]
    abundance: NDArray[np.float32] | None
    cell_types: tuple[str, ...]
    split: str | None
    group: str | None
    um_per_px: float | None
    shape: tuple[int, int]
    picture: NDArray[np.uint8] | None

    def payload(self) -> dict[str, Any]:
        """What `map.js` needs of the slide."""
        counted = tuple(str(i) for i in range(len(self.xy)))
        return {
            "name": self.name,
            "split": self.split,
            "group": self.group,
            "labelled": self.abundance is not None,
            "n": len(self.xy),
            "height": self.shape[0],
            "width": self.shape[1],
            "pitch": round(pitch_px(self.xy) or 1.0, 3),
            "um_per_px": self.um_per_px,
            "image": None if self.picture is None else jpeg(self.picture),
            # Column after column, as every matrix on the page.
            "xy": floats(self.xy.T),
            "ids": None if self.spot_ids == counted else list(self.spot_ids),
        }
