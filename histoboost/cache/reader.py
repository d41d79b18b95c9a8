"""Reading half of the embedding store; `store` adds writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.layout import Damaged, embedding_key
from histoboost.cache.listing import EmbeddingRow, list_embeddings
from histoboost.cache.pending import damaged_store, pending_labels, pending_slides
from histoboost.cache.published_embedding import Published, open_published, read_rows
from histoboost.cache.recipe import Recipe
from histoboost.cache.root import check_root, open_backend
from histoboost.cache.source import read_source
from histoboost.cache.table import (
    SlideRecord,
    embedding_names,
    is_slide,
    open_slide,
    read_table,
    slide_names,
    slide_records,
)
from histoboost.cache.verify import Verification, verify
from histoboost.errors import BadInput
from histoboost.names import check_embedding_name, check_slide_name
from histoboost.spots import SpotTable

T = TypeVar("T")


class StoreReader:
    """Base of `EmbeddingStore`: all that reads."""

    def __init__(
        self, location: str | os.PathLike[str], mode: Literal["r", "r+", "a"] = "a"
    ) -> None:
        self._backend = open_backend(os.fspath(location))
        self._mode = mode
        check_root(self._backend, mode)

    def __repr__(self) -> str:
        return f"EmbeddingStore({self.location!r}, slides={len(slide_names(self._backend))})"

    @property
    def location(self) -> str:
        """Folder or URL of the store."""
        return str(self._backend)

    def slides(self, labelled: bool | None = None) -> list[str]:
        """Names of all, only labelled or only unlabelled slides, in the order of writing."""
        found = []
        for name, record in slide_records(self._backend):
            if isinstance(record, Damaged):
                raise damaged_store(self._backend, name, None, str(record))
            if labelled in (None, record.labelled):
                found.append((record.order, name))
        return [name for _, name in sorted(found)]

    def __contains__(self, slide: str) -> bool:
        return is_slide(self._backend, slide)

    def pending_slides(self) -> list[str]:
        """Slides of unfinished runs that are not stored yet."""
        return pending_slides(self._backend)

    def pending_labels(self) -> list[str]:
        """Slides that an interrupted `relabel` has not completed, sorted."""
        return pending_labels(self._backend)

    def spots(self, slide: str) -> SpotTable:
        """Read the spots of a slide."""
        record = self._slide(slide)
        return self._intact(lambda: read_table(self._backend, record), slide)

    def source(self, slide: str) -> dict[str, Any]:
        """Latest description of a slide's image from `note_source`."""
        return read_source(self._backend, slide)

    def embeddings(self, slide: str) -> dict[str, Recipe]:
        """Recipes of the complete embeddings of a slide by name, sorted."""
        self._slide(slide)
        names = embedding_names(self._backend, slide)
        return {name: self._published(slide, name).recipe for name in names}

    def width(self, slide: str, name: str) -> int:
        """Number of features, D, of an embedding."""
        return self._published(slide, name).shape[1]

    def read(self, slide: str, name: str) -> NDArray[np.float16]:
        """Read an embedding, (N, D) float16, rows in the order of the slide's spots.

        Raises
        ------
        HistoboostError
            If there is no such embedding, or it is damaged.
        """
        return self.reading(slide, name)(slice(None))

    def reading(self, slide: str, name: str) -> Callable[[slice], NDArray[np.float16]]:
        """Return a function that reads a range of rows; errors like `read`."""
        published = self._published(slide, name)
        if published.shape[0] != self._slide(slide).n_spots:
            reason = f"has {published.shape[0]} rows, not one per spot"
            raise damaged_store(self._backend, slide, name, reason)

        def rows(wanted: slice) -> NDArray[np.float16]:
            return self._intact(lambda: read_rows(self._backend, published, wanted), slide, name)

        return rows

    def verify(self) -> Verification:
        """Read every byte and list the damage."""
        return verify(self._backend)

    def summary(self) -> list[EmbeddingRow]:
        """One row per embedding: slides, shape, size, origin, completeness.

        Damaged slides count as lacking the embedding.
        """
        slides = slide_names(self._backend)
        return list_embeddings(self._backend, slides, keep=self._mode != "r")

    def _check_slide(self, slide: str) -> None:
        check_slide_name(slide)
        if not is_slide(self._backend, slide):
            known = ", ".join(slide_names(self._backend)) or "none"
            raise BadInput(f"{self.location}: no slide {slide!r}; available: {known}")

    def _slide(self, slide: str) -> SlideRecord:
        self._check_slide(slide)
        return self._intact(lambda: open_slide(self._backend, slide), slide)

    def _published(self, slide: str, name: str) -> Published:
        check_slide_name(slide)
        check_embedding_name(name)
        if not self._backend.exists(embedding_key(slide, name)):
            self._slide(slide)
            known = ", ".join(embedding_names(self._backend, slide)) or "none"
            raise BadInput(
                f"{self.location}: no embedding {name!r} of slide {slide}; available: {known}"
            )
        return self._intact(lambda: open_published(self._backend, slide, name), slide, name)

    def _intact(self, read: Callable[[], T], slide: str, name: str | None = None) -> T:
        try:
            return read()
        except Damaged as damage:
            raise damaged_store(self._backend, slide, name, str(damage)) from None
