"""Turn slides that are mounted otherwise than the training slides: by quarters, or mirrored.

Networks are not invariant to orientation, and the sections of a data set are mounted alike, so a
model learns their orientation. Of the eight orientations of a slide the one whose patches are
nearest to the training spots is embedded; the spots keep their coordinates.
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

#: Spots that are embedded in all orientations, the fewest to decide on, and bytes of their patches.
SPOTS, FEWEST, MOST_BYTES = 64, 32, 128 << 20
#: Slides that are embedded together.
TOGETHER = 4
#: Orientations: as given, and turned.
WAYS = (None, *TURNS)
#: A turn must lower the novelty by so many standard errors, and by this fraction: symmetric
#: features differ by rounding only, but consistently.
SURE, LEAST = 3.0, 0.02


class Mounting:
    """Finds the turn that brings a slide into the orientation of a model's training slides.

    Called with slides that have spots, it returns for each one of `TURNS`, with a warning, or None:
    if the slide is oriented like them, has fewer than `FEWEST` spots or unfamiliar tissue, or if
    the model has no record of its training spots or uses coordinates.

    Parameters
    ----------
    model : CompositionRegressor
        The model.
    todo : sequence of mapping
        Arguments of `featurize`, see `histoboost.featurize.like_model.as_trained`.
    store : EmbeddingStore
        May remember the turns, see `remember`.
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
        self._identity: list[Any] = []
        if self._novelty is not None:
            widths, arrays = self._novelty.to_files()
            digests = {name: digest_array(array) for name, array in arrays.items()}
            self._identity = [SPOTS, FEWEST, SURE, LEAST, model.recipes_, widths, digests]

    def __call__(self, slides: Iterable[Slide]) -> dict[str, str | None]:
        """Turn of each slide by name; the first of several copies of an image decides."""
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
            key = digest_bytes(json.dumps([*self._identity, digest_array(slide.xy)]).encode())
            turns: dict[str, str | None] = known.get("turns", {})
            if key in turns:
                self._turns[name] = turns[key]
                continue
            self._new.append((slide.name, known["files"], key, name))
            waiting[name] = slide
            if len(waiting) == TOGETHER:
                self._decide(waiting)
        if waiting:
            self._decide(waiting)
        for name, turn in self._turns.items():
            if name not in before and turn is not None:
                warn_of_turn(name, turn)
        return {name: self._turns[of] for name, of in whole.items()}

    def remember(self) -> None:
        """Note new turns in the store, once it holds the slides."""
        for slide, files, key, name in self._new:
            known = self._store.source(slide)
            if files and known.get("files") == files:
                turns = {**known.get("turns", {}), key: self._turns[name]}
                self._store.note_source(slide, {**known, "turns": turns})
        self._new.clear()

    def _decide(self, waiting: dict[str, Slide]) -> None:
        novelty = self.novelty(waiting.values())
        for name, slide in waiting.items():
            self._turns[name] = None
            if slide.name in novelty:
                self._turns[name] = WAYS[nearest_way(novelty[slide.name])]
        waiting.clear()

    def novelty(self, slides: Iterable[Slide]) -> dict[str, NDArray[np.float64]]:
        """Novelty (8, n) of sampled spots in all `WAYS`, by slide; omits slides with few spots."""
        assert self._novelty is not None
        samples = {}
        for slide in slides:
            sizes = [size for each in self._todo for size in parse_sizes(each["patch"], [slide])]
            sample = _mosaic(slide, max(size.pixels(slide) for size in sizes) + 2)
            if len(sample.xy) >= FEWEST:
                samples[slide.name] = sample
        if not samples:
            return {}
        from histoboost.featurize.engines.pick import pick_devices  # torch takes seconds

        device = str(pick_devices(self._device)[0])  # too few patches for several processes
        ways = [
            replace(sample if turn is None else turned_slide(sample, turn), name=f"{at}-{turn}")
            for at, sample in enumerate(samples.values())
            for turn in WAYS
        ]
        with tempfile.TemporaryDirectory(prefix="histoboost-") as folder, warnings_kept():
            store = EmbeddingStore(Path(folder) / "store.zarr")
            for arguments in self._todo:
                featurize(Dataset(Path("mounting"), ways), store, device=device, **arguments)
            tables = [store.spots(way.name) for way in ways]
            found = [self._novelty.by_view(store, table)[1] for table in tables]
        starts = range(0, len(found), len(WAYS))
        return {
            name: np.stack(found[at : at + len(WAYS)])
            for name, at in zip(samples, starts, strict=True)
        }


def nearest_way(novelty: NDArray[np.float64]) -> int:
    """Row of the clearly lowest novelty, (ways, n spots); 0 if there is none."""
    best = int(np.argmin(novelty.mean(axis=1)))
    gain = novelty[0] - novelty[best]
    error = gain.std() / math.sqrt(len(gain))
    sure = gain.mean() > max(SURE * error, LEAST * novelty[0].mean())
    return best if sure and np.mean(novelty[best] > 1) <= UNLIKE else 0


def _mosaic(slide: Slide, side: int) -> Slide:
    """Join the squares of `side` pixels around random spots of a slide in one image."""
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
