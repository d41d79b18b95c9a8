"""Turned and mirrored slides, as if mounted another way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.images.base import Level, SlideImage
from histoboost.slides.slide import Dataset, Slide

#: Anticlockwise quarter turns, and whether the slide is then mirrored left to right.
TURNS = {
    "90": (1, False),
    "180": (2, False),
    "270": (3, False),
    "mirrored": (0, True),
    "90-mirrored": (1, True),
    "180-mirrored": (2, True),
    "270-mirrored": (3, True),
}


class TurnedImage(SlideImage):
    """An image rotated by 90 degrees counterclockwise, or mirrored left to right."""

    def __init__(self, image: SlideImage, *, mirrored: bool) -> None:
        self._image, self._mirrored = image, mirrored
        self.path: Path | None = None
        self.levels, self.tiles = image.levels, image.tiles
        if not mirrored:
            self.levels = tuple(Level(width, height, by) for height, width, by in image.levels)
            self.tiles = tuple((columns, rows) for rows, columns in image.tiles)
        self.source_dtype, self.um_per_px = image.source_dtype, image.um_per_px

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `SlideImage`."""
        right = self._image.levels[level].width
        if self._mirrored:
            region = self._image.read_region(level, right - x - width, y, width, height)
            return np.ascontiguousarray(region[:, ::-1])
        region = self._image.read_region(level, right - y - height, x, height, width)
        return np.ascontiguousarray(np.rot90(region))


def turned_slide(slide: Slide, turn: str) -> Slide:
    """Turn a slide and its spots; `turn` is a key of `TURNS`."""
    quarters, mirrored = TURNS[turn]
    image, xy = slide.image, slide.xy
    for _ in range(quarters):
        xy = np.stack([xy[:, 1], image.shape[1] - xy[:, 0]], axis=1)
        image = TurnedImage(image, mirrored=False)
    if mirrored:
        xy = np.stack([image.shape[1] - xy[:, 0], xy[:, 1]], axis=1)
        image = TurnedImage(image, mirrored=True)
    return replace(slide, image=image, xy=xy)


def mounted_slide(slide: Slide, turn: str | None) -> Slide:
    """Turn the patches of a slide, but keep its original spot table."""
    if turn is None:
        return slide
    turned = turned_slide(slide, turn)
    assert isinstance(turned.image, TurnedImage)
    # The recipe identifies it by the file of the original.
    turned.image.files, turned.image.path = slide.image.files, getattr(slide.image, "path", None)
    return replace(turned, source=slide.source or slide, turn=turn)


def turned_dataset(dataset: Dataset, turn: str) -> Dataset:
    """Turn all slides of a dataset; refuse an unknown `turn`."""
    if turn not in TURNS:
        raise BadInput(f"turned {turn!r}: unknown; choose one of {', '.join(TURNS)}")
    return dataset.each(lambda _: partial(turned_slide, turn=turn))
