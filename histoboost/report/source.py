"""Slides to explore, from a data set or an embedding store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from histoboost.cache.layout import is_local_store
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostError
from histoboost.progress import progress

if TYPE_CHECKING:
    from histoboost.slides.slide import Slide
    from histoboost.spots import SpotTable

#: Long side of the image behind a map, in pixels.
PICTURE_PX = 1000


class Source(NamedTuple):
    """Slides to explore, without spots that cannot be drawn; `problems` are those of `inspect`."""

    slides: list[SpotTable]
    problems: list[dict[str, Any]]
    store: EmbeddingStore | None


def open_source(path: str | Path, format: str | None = None) -> Source:
    """Open a store or, if it is none or `format` is given, a data set."""
    # Only stores can be URLs.
    if format is not None or not ("://" in str(path) or is_local_store(Path(path))):
        return _from_dataset(path, format)
    store = EmbeddingStore(path, mode="r")
    slides = [store.spots(name) for name in store.slides()]
    if not slides:
        raise BadInput(f"{path}: the store contains no slides; run histoboost featurize first")
    return Source(slides, [], store)


def _from_dataset(path: str | Path, format: str | None) -> Source:
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
    return Source(slides, inspect(dataset)["problems"], None)


def _spot_table(slide: Slide) -> SpotTable:
    """Spots of a slide, with a thumbnail if its pixels can be read."""
    from histoboost.slides.thumbnail import thumbnail

    try:
        return slide.spot_table(thumbnail(slide.image, PICTURE_PX))
    except HistoboostError:
        # `inspect` reports the problem, at the top of the page.
        return slide.spot_table()
