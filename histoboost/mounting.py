"""Slides that lie otherwise than the training slides: turned by quarters, or mirrored.

Networks know up from down, and the sections of a set are mounted alike, so that a model learns how
they lie. Of the eight ways of laying a slide, theirs is the one in which its patches are nearest
to the training spots; in that way it is embedded, while its spots stay where they are.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_array, digest_bytes
from histoboost.errors import warnings_kept
from histoboost.featurize.embed import featurize
from histoboost.featurize.opened import remembered
from histoboost.featurize.patch_size import parse_sizes
from histoboost.regress.guard import warn_of_turn
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.novelty import UNLIKE
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.lattice import whole_name
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.turned import TURNS, turned_slide

#: Spots that are looked at in all eight ways, the fewest that will do, and bytes of their patches.
SPOTS, FEWEST, MOST_BYTES = 64, 32, 128 << 20
#: Standard errors by which the best way must be nearer than that in which the slide lies.
SURE = 3.0


class Mounting:
    """Tells how a slide must be turned to lie as the training slides of a model do.

    Called with a slide, its spots laid, it gives one of `TURNS`, or None: where it lies as they
    do, has less than `FEWEST` spots, is of tissue unlike theirs, or where the model knows nothing
    of its training spots or looks at coordinates. A turn is warned of.

    Parameters
    ----------
    model : CompositionRegressor
        The model.
    todo : sequence of mapping
        Arguments of `featurize`, see `histoboost.featurize.like_model.as_trained`.
    store : EmbeddingStore
        May remember how slides lie; see `remember`.
    device : str
        As for `featurize`.
    """

    def __init__(
        self,
        model: CompositionRegressor,
        todo: Sequence[Mapping[str, Any]],
        store: EmbeddingStore,
        device: str = "auto",
    ) -> None:
        self._todo, self._store, self._device = todo, store, device
        guard = model.guard_
        self._novelty = guard.novelty if guard.knows_mounting(model.setup_) else None
        self._turns: dict[str, str | None] = {}
        self._new: list[tuple[str, object, str, str | None]] = []
        self._of_model: list[Any] = []
        if self._novelty is not None:
            widths, arrays = self._novelty.to_files()
            kept = {name: digest_array(array) for name, array in arrays.items()}
            self._of_model = [SPOTS, FEWEST, SURE, model.recipes_, widths, kept]

    def __call__(self, slide: Slide) -> str | None:
        """How a slide is to be turned; of several copies of one image the first decides."""
        if self._novelty is None:
            return None
        name = whole_name(slide)
        if name not in self._turns:
            self._turns[name] = turn = self._turn_of(slide)
            if turn is not None:
                warn_of_turn(name, turn)
        return self._turns[name]

    def remember(self) -> None:
        """Note in the store, once it holds the slides, how those lie that were looked at."""
        for name, files, key, turn in self._new:
            known = self._store.source(name)
            if files and known.get("files") == files:
                turns = {**known.get("turns", {}), key: turn}
                self._store.note_source(name, {**known, "turns": turns})
        self._new.clear()

    def _turn_of(self, slide: Slide) -> str | None:
        known = remembered(self._store, slide)
        key = digest_bytes(json.dumps([*self._of_model, digest_array(slide.xy)]).encode())
        turns: dict[str, str | None] = known.get("turns", {})
        if key in turns:
            return turns[key]
        turn = self._nearest(slide)
        self._new.append((slide.name, known["files"], key, turn))
        return turn

    def _nearest(self, slide: Slide) -> str | None:
        apart = self.apart(slide)
        best = 0 if apart is None else nearest_way(apart)
        return None if best == 0 else list(TURNS)[best - 1]

    def apart(self, slide: Slide) -> NDArray[np.float64] | None:
        """Novelty (8, n) of some spots, as the slide lies and turned in all `TURNS`."""
        assert self._novelty is not None
        sizes = [size for each in self._todo for size in parse_sizes(each["patch"], [slide])]
        some = _mosaic(slide, max(size.pixels(slide) for size in sizes) + 2)
        if len(some.xy) < FEWEST:
            return None
        ways = [replace(some, name="as-it-lies")]
        ways += [replace(turned_slide(some, turn), name=turn) for turn in TURNS]
        with tempfile.TemporaryDirectory(prefix="histoboost-") as folder, warnings_kept():
            store = EmbeddingStore(Path(folder) / "store.zarr")
            for arguments in self._todo:
                featurize(Dataset(Path(slide.name), ways), store, device=self._device, **arguments)
            names = list(self._novelty.widths)
            read = [[store.read(w.name, e).astype(np.float32) for e in names] for w in ways]
        return np.stack([self._novelty.of_parts(parts)[1] for parts in read])


def nearest_way(apart: NDArray[np.float64]) -> int:
    """Of novelty (ways, n) of some spots, the row that is clearly the least; 0 where none is."""
    best = int(np.argmin(apart.mean(axis=1)))
    nearer = apart[0] - apart[best]
    sure = nearer.mean() > SURE * nearer.std() / math.sqrt(len(nearer))
    return best if sure and np.mean(apart[best] > 1) <= UNLIKE else 0


def _mosaic(slide: Slide, side: int) -> Slide:
    """Some spots of a slide with their surroundings, squares of `side` pixels side by side."""
    count = min(SPOTS, MOST_BYTES // (3 * side * side))
    keep = np.zeros(len(slide.xy), bool)
    keep[np.random.default_rng(0).permutation(len(slide.xy))[:count]] = True
    some = slide.only(keep)
    across = math.ceil(math.sqrt(max(len(some.xy), 1)))
    pixels = np.zeros((across * side, across * side, 3), np.uint8)
    corners = np.floor(some.xy - side / 2).astype(int)
    places = np.stack(np.divmod(np.arange(len(some.xy)), across)[::-1], axis=1) * side
    for (x, y), (left, top) in zip(corners, places, strict=True):
        pixels[top : top + side, left : left + side] = _square(slide, int(x), int(y), side)
    return replace(
        some,
        image=ArrayImage(pixels),
        xy=some.xy - corners + places,
        abundance=None,
        cell_types=(),
        lattice=None,
        source=None,
    )


def _square(slide: Slide, x: int, y: int, side: int) -> NDArray[np.uint8]:
    """A square of an image, mirrored at its border as patches are."""
    height, width = slide.image.shape
    left, top = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    right, bottom = max(min(x + side, width), left + 1), max(min(y + side, height), top + 1)
    inside = slide.image.read_region(0, left, top, right - left, bottom - top)
    beyond = [(max(top - y, 0), 0), (max(left - x, 0), 0)]
    found = np.pad(inside, [*beyond, (0, 0)], mode="symmetric")
    beyond = [(0, side - found.shape[0]), (0, side - found.shape[1])]
    return np.pad(found, [*beyond, (0, 0)], mode="symmetric")
