"""Where the exploration page takes its slides from: a dataset, or a store."""

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

#: Long side of the picture behind a map, in pixels.
PICTURE_PX = 1000


@dataclass(frozen=True)
class Source:
    """Slides to explore: those of a dataset with what `inspect` found, or those of a store.

    Spots that cannot be drawn are left out, and each has a small picture where its slide has one.
    """

    slides: list[SpotTable]
    problems: list[dict[str, Any]] = field(default_factory=list)
    store: EmbeddingStore | None = None

    def embedding_names(self) -> list[str]:
        """Names of all embeddings, `net@64` before `net@128`."""
        if self.store is None:
            return []
        names = {name for spots in self.slides for name in self.store.embeddings(spots.slide)}
        return sorted(names, key=lambda name: (name.rsplit("@", 1)[0], len(name), name))

    def embedding(self, name: str) -> list[tuple[str, NDArray[np.float16]]]:
        """Slide and (N, D) matrix, for the slides that have this embedding."""
        if self.store is None:
            return []
        return [
            (spots.slide, self.store.read(spots.slide, name))
            for spots in self.slides
            if name in self.store.embeddings(spots.slide)
        ]


def open_source(path: str | Path, format: str | None = None) -> Source:
    """Open a dataset, or a store where no format of a dataset is given."""
    # Datasets are files and folders.
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
            keep = _usable(slide.xy, slide.abundance)
            if keep.any():
                slides.append(_spots_of(slide, keep))
            advance(1)
    if not slides:
        raise BadInput(f"{path}: no usable spots; see histoboost inspect {path}")
    return Source(slides, inspect(dataset)["problems"])


def _spots_of(slide: Slide, keep: NDArray[np.bool_]) -> SpotTable:
    """The spots to `keep`, and a picture of the slide if its pixels can be read."""
    from histoboost.slides.thumbnail import thumbnail

    kept = slide.only(keep)
    try:
        return kept.spot_table(thumbnail(slide.image, PICTURE_PX))
    except HistoboostError:
        # `inspect` says what is wrong, at the top of the page.
        return kept.spot_table()


def _usable(xy: NDArray[np.float64], abundance: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """Spots whose numbers are finite: the others cannot be drawn, and `inspect` lists them."""
    numbers = xy if abundance is None else np.hstack([xy, abundance])
    return np.asarray(np.isfinite(numbers).all(axis=1))
