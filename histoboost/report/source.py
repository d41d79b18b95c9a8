"""Slides to explore, from a data set or an embedding store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.layout import is_local_store
from histoboost.errors import BadInput, HistoboostError

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.slides.slide import Slide
    from histoboost.spots import SpotTable

#: Long side of the image behind a map, in pixels.
PICTURE_PX = 1000


@dataclass(frozen=True)
class Source:
    """Slides to explore, without spots that cannot be drawn; `problems` are those of `inspect`."""

    slides: list[SpotTable]
    problems: list[dict[str, Any]] = field(default_factory=list)
    store: EmbeddingStore | None = None

    def embedding_names(self) -> list[str]:
        """Names of all embeddings, sorted, with `net@64` before `net@128`."""
        if self.store is None:
            return []
        names = {name for spots in self.slides for name in self.store.embeddings(spots.slide)}
        return sorted(names, key=lambda name: (name.rsplit("@", 1)[0], len(name), name))

    def embedding(self, name: str) -> list[tuple[str, NDArray[np.float16]]]:
        """Read this embedding, (N, D), of all slides that have it."""
        if self.store is None:
            return []
        return [
            (spots.slide, self.store.read(spots.slide, name))
            for spots in self.slides
            if name in self.store.embeddings(spots.slide)
        ]


def open_source(path: str | Path, format: str | None = None) -> Source:
    """Open a store or, if it is none or `format` is given, a data set."""
    # Only stores can be URLs.
    if format is None and ("://" in str(path) or is_local_store(Path(path))):
        return _from_store(path)
    return _from_dataset(path, format)


def _from_store(path: str | Path) -> Source:
    from histoboost.cache.store import EmbeddingStore

    store = EmbeddingStore(path, mode="r")
    slides = [store.spots(name) for name in store.slides()]
    if not slides:
        raise BadInput(f"{path}: the store contains no slides; run histoboost featurize first")
    return Source(slides, store=store)


def _from_dataset(path: str | Path, format: str | None) -> Source:
    from histoboost.progress import progress
    from histoboost.slides.inspect import inspect
    from histoboost.slides.readers import open_dataset

    dataset = open_dataset(path, format)
    slides = []
    with progress("Reading slides", len(dataset.slides), "slides") as advance:
        for slide in dataset.slides:
            # `inspect` lists the spots whose numbers are not finite.
            values = slide.xy if slide.abundance is None else np.hstack([slide.xy, slide.abundance])
            finite = np.isfinite(values).all(axis=1)
            if finite.any():
                slides.append(_spot_table(slide.only(finite)))
            advance(1)
    if not slides:
        raise BadInput(f"{path}: no usable spots; see histoboost inspect {path}")
    return Source(slides, inspect(dataset)["problems"])


def _spot_table(slide: Slide) -> SpotTable:
    """Spots of a slide, with a thumbnail if its pixels can be read."""
    from histoboost.slides.thumbnail import thumbnail

    try:
        return slide.spot_table(thumbnail(slide.image, PICTURE_PX))
    except HistoboostError:
        # `inspect` reports the problem, at the top of the page.
        return slide.spot_table()
