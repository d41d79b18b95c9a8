"""Slides that lie otherwise than the training slides: turned by quarters, or mirrored.

Networks know up from down, and the sections of a set are mounted alike, so that a model learns how
they lie. Of the eight ways of laying a slide, theirs is the one in which its patches are nearest
to the training spots; in that way it is embedded, while its spots stay where they are.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_array, digest_bytes
from histoboost.errors import warnings_kept
from histoboost.featurize.embed import featurize
from histoboost.featurize.opened_slide import remembered
from histoboost.featurize.patch_size import parse_sizes
from histoboost.regress.guard import warn_of_turn
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.novelty import UNLIKE
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.lattice import whole_name
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.turned_slide import TURNS, turned_slide

#: Spots that are looked at in all eight ways, the fewest that will do, and bytes of their patches.
SPOTS, FEWEST, MOST_BYTES = 64, 32, 128 << 20
#: Slides that are looked at together, from one loading of the network.
TOGETHER = 4
#: The ways of laying a slide: as it lies, and turned.
WAYS = (None, *TURNS)
#: Standard errors by which the best way must be nearer than that in which the slide lies, and the
#: share of its novelty: features that are symmetric differ by rounding alone, but surely.
SURE, LEAST = 3.0, 0.02


class Mounting:
    """Tells how a slide must be turned to lie as the training slides of a model do.

    Called with slides, their spots laid, it gives each one of `TURNS`, or None: where it lies as
    they do, has less than `FEWEST` spots, is of tissue unlike theirs, or where the model knows
    nothing of its training spots or looks at coordinates. Turns are warned of.

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
        self._new: list[tuple[str, object, str, str]] = []
        self._of_model: list[Any] = []
        if self._novelty is not None:
            widths, arrays = self._novelty.to_files()
            kept = {name: digest_array(array) for name, array in arrays.items()}
            self._of_model = [SPOTS, FEWEST, SURE, LEAST, model.recipes_, widths, kept]

    def __call__(self, slides: Iterable[Slide]) -> dict[str, str | None]:
        """How each slide is to be turned; of several copies of one image the first decides."""
        if self._novelty is None:
            return {slide.name: None for slide in slides}
        whole: dict[str, str] = {}
        waiting: dict[str, Slide] = {}
        before = set(self._turns)
        for slide in slides:
            whole[slide.name] = name = whole_name(slide)
            if name in self._turns or name in waiting:
                continue
            known = remembered(self._store, slide)
            key = digest_bytes(json.dumps([*self._of_model, digest_array(slide.xy)]).encode())
            turns: dict[str, str | None] = known.get("turns", {})
            if key in turns:
                self._turns[name] = turns[key]
                continue
            self._new.append((slide.name, known["files"], key, name))
            waiting[name] = slide
            if len(waiting) == TOGETHER:
                self._look(waiting)
        if waiting:
            self._look(waiting)
        for name, turn in self._turns.items():
            if name not in before and turn is not None:
                warn_of_turn(name, turn)
        return {name: self._turns[of] for name, of in whole.items()}

    def remember(self) -> None:
        """Note in the store, once it holds the slides, how those lie that were looked at."""
        for slide, files, key, name in self._new:
            known = self._store.source(slide)
            if files and known.get("files") == files:
                turns = {**known.get("turns", {}), key: self._turns[name]}
                self._store.note_source(slide, {**known, "turns": turns})
        self._new.clear()

    def _look(self, waiting: dict[str, Slide]) -> None:
        apart = self.apart(waiting.values())
        for name, slide in waiting.items():
            best = nearest_way(apart[slide.name]) if slide.name in apart else 0
            self._turns[name] = WAYS[best]
        waiting.clear()

    def apart(self, slides: Iterable[Slide]) -> dict[str, NDArray[np.float64]]:
        """Novelty (8, n) of some spots in all `WAYS`, of slides that have enough."""
        assert self._novelty is not None
        some = {slide.name: self._mosaic(slide) for slide in slides}
        some = {name: mosaic for name, mosaic in some.items() if len(mosaic.xy) >= FEWEST}
        if not some:
            return {}
        from histoboost.featurize.engines.pick import pick_devices  # torch takes seconds

        device = str(pick_devices(self._device)[0])  # processes take longer than so few patches
        ways = [
            replace(mosaic if turn is None else turned_slide(mosaic, turn), name=f"{at}-{turn}")
            for at, mosaic in enumerate(some.values())
            for turn in WAYS
        ]
        with tempfile.TemporaryDirectory(prefix="histoboost-") as folder, warnings_kept():
            store = EmbeddingStore(Path(folder) / "store.zarr")
            for arguments in self._todo:
                featurize(Dataset(Path("mounting"), ways), store, device=device, **arguments)
            tables = [store.spots(way.name) for way in ways]
            found = [self._novelty.of_slide(store, table)[1] for table in tables]
        first = range(0, len(found), len(WAYS))
        return {
            name: np.stack(found[at : at + len(WAYS)]) for name, at in zip(some, first, strict=True)
        }

    def _mosaic(self, slide: Slide) -> Slide:
        sizes = [size for each in self._todo for size in parse_sizes(each["patch"], [slide])]
        return _mosaic(slide, max(size.pixels(slide) for size in sizes) + 2)


def nearest_way(apart: NDArray[np.float64]) -> int:
    """Of novelty (ways, n) of some spots, the row that is clearly the least; 0 where none is."""
    best = int(np.argmin(apart.mean(axis=1)))
    nearer = apart[0] - apart[best]
    error = nearer.std() / math.sqrt(len(nearer))
    sure = nearer.mean() > max(SURE * error, LEAST * apart[0].mean())
    return best if sure and np.mean(apart[best] > 1) <= UNLIKE else 0


def _mosaic(slide: Slide, side: int) -> Slide:
    """Some spots of a slide with their surroundings, squares of `side` pixels side by side."""
    from histoboost.featurize.patches import crop  # torch takes seconds

    count = min(SPOTS, MOST_BYTES // (3 * side * side))
    keep = np.zeros(len(slide.xy), bool)
    keep[np.random.default_rng(0).permutation(len(slide.xy))[:count]] = True
    some = slide.only(keep)
    across = math.ceil(math.sqrt(max(len(some.xy), 1)))
    pixels = np.zeros((across * side, across * side, 3), np.uint8)
    corners = np.floor(some.xy - side / 2).astype(int)
    places = np.stack(np.divmod(np.arange(len(some.xy)), across)[::-1], axis=1) * side
    for corner, (left, top) in zip(corners, places, strict=True):
        [pixels[top : top + side, left : left + side]] = crop(slide.image, corner[None], side)
    return replace(
        some,
        image=ArrayImage(pixels),
        xy=some.xy - corners + places,
        abundance=None,
        cell_types=(),
        lattice=None,
        source=None,
    )
