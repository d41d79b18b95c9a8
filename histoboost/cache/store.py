"""The embedding store: what `featurize` writes and `regress` reads.

See docs/store.md for the format, `writer` for how an embedding comes to be, and `place` for what
the store asks of the file system.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.layout import (
    FOREIGN,
    FORMAT_VERSION,
    ROOT_DOCUMENT,
    SLIDES,
    STAGING,
    Damaged,
    root_bytes,
    slide_key,
    slides_bytes,
)
from histoboost.cache.names import check_embedding_name, check_slide_name
from histoboost.cache.place import LocalPlace
from histoboost.cache.recipe import Recipe
from histoboost.cache.spots import SpotTable
from histoboost.cache.table import SlideRecord, open_slide, read_table, write_table
from histoboost.cache.unit import Unit, open_unit, read_unit
from histoboost.cache.writer import EmbeddingWriter
from histoboost.errors import HistoboostError

__all__ = ["EmbeddingStore", "EmbeddingWriter", "Recipe", "SpotTable"]

T = TypeVar("T")


class EmbeddingStore:
    """Spots and embeddings of slides, on disk, in Zarr groups that AnnData can open.

    Parameters
    ----------
    location : str or path
        Folder of the store.
    mode : {"a", "r"}
        ``"a"`` reads and writes and makes the store where there is none; ``"r"`` only reads.

    Raises
    ------
    HistoboostError
        If it is not a store, was written by a newer version, or is absent in mode ``"r"``.
    """

    def __init__(self, location: str | os.PathLike[str], mode: Literal["r", "a"] = "a") -> None:
        self._place = LocalPlace(Path(location))
        self._mode = mode
        self._check_root()

    @property
    def location(self) -> str:
        """Where the store is."""
        return str(self._place)

    def slides(self) -> list[str]:
        """Names of the slides, in the order in which they were written."""
        names = [name for name in self._place.children(SLIDES) if name != ROOT_DOCUMENT]
        records = [(self._slide(name).order, name) for name in names]
        return [name for _, name in sorted(records)]

    def write_spots(self, table: SpotTable) -> None:
        """Store the spots of a slide; does nothing if the same are stored already.

        Raises
        ------
        HistoboostError
            If other spots are stored for the slide; the message names the difference.
        """
        self._check_writable()
        self._make_root()
        write_table(self._place, table)

    def spots(self, slide: str) -> SpotTable:
        """The spots of a slide."""
        record = self._slide(slide)
        return self._whole(lambda: read_table(self._place, record), slide)

    def embeddings(self, slide: str) -> dict[str, Recipe]:
        """Names of the complete embeddings of a slide, sorted, with their recipes."""
        record = self._slide(slide)
        return {
            name: self._unit(slide, name).recipe
            for name in self._place.children(f"{slide_key(slide)}/obsm")
            if not record.owns(f"obsm/{name}")
        }

    def width(self, slide: str, name: str) -> int:
        """Number of features, D, of an embedding."""
        return self._unit(slide, name).shape[1]

    def read(self, slide: str, name: str) -> NDArray[np.float16]:
        """An embedding, (N, D) float16, rows in the order of the slide's spots.

        Raises
        ------
        HistoboostError
            If there is no such embedding, or it is damaged.
        """
        unit = self._unit(slide, name)
        return self._whole(lambda: read_unit(self._place, unit), slide, name)

    def writer(
        self, slide: str, name: str, recipe: Recipe, n_spots: int, width: int
    ) -> EmbeddingWriter:
        """Begin or resume writing an embedding of a slide whose spots are stored.

        Raises
        ------
        HistoboostError
            If the name is invalid, or taken by another recipe on this or another slide.
        """
        self._check_writable()
        check_embedding_name(name)
        expected = self._slide(slide).n_spots
        if n_spots != expected:
            raise HistoboostError(
                f"slide {slide}: {n_spots} rows for {expected} spots; one row per spot is needed"
            )
        if width < 1:
            raise HistoboostError(f"embedding {name}: width {width}; at least 1 is needed")
        self._check_same_elsewhere(slide, name, recipe)
        return EmbeddingWriter(self._place, slide, name, recipe, n_spots, width)

    def _check_same_elsewhere(self, slide: str, name: str, recipe: Recipe) -> None:
        for other in self._place.children(SLIDES):
            if other == slide:
                continue
            try:
                stored = open_unit(self._place, other, name).recipe.without_slide()
            except Damaged:
                continue  # absent there, or for `verify` to report
            found = stored.differences(recipe.without_slide())
            if found:
                raise HistoboostError(
                    f"{self.location}: embedding {name} is stored with another recipe for slide "
                    f"{other} ({'; '.join(found[:3])}); choose another name or remove it first"
                )

    def _slide(self, slide: str) -> SlideRecord:
        check_slide_name(slide)
        if not self._place.exists(slide_key(slide)):
            known = [name for name in self._place.children(SLIDES) if name != ROOT_DOCUMENT]
            raise HistoboostError(
                f"{self.location}: no slide {slide!r}; there are {', '.join(known) or 'none'}"
            )
        return self._whole(lambda: open_slide(self._place, slide), slide)

    def _unit(self, slide: str, name: str) -> Unit:
        check_embedding_name(name)
        key = f"{slide_key(slide)}/obsm"
        if not self._place.exists(f"{key}/{name}"):
            record = self._slide(slide)
            names = [n for n in self._place.children(key) if not record.owns(f"obsm/{n}")]
            raise HistoboostError(
                f"{self.location}: no embedding {name!r} of slide {slide}; "
                f"there are {', '.join(names) or 'none'}"
            )
        return self._whole(lambda: open_unit(self._place, slide, name), slide, name)

    def _whole(self, read: Callable[[], T], slide: str, name: str | None = None) -> T:
        try:
            return read()
        except Damaged as damage:
            unit = f"slide {slide}" if name is None else f"slide {slide}, embedding {name}"
            raise HistoboostError(
                f"{self.location}: {unit}: {damage}; "
                "run the same featurize again to repair it, or remove it"
            ) from None

    def _check_root(self) -> None:
        place = self._place
        if isinstance(place, LocalPlace) and place.root.exists() and not place.root.is_dir():
            raise HistoboostError(f"{place}: is a file, not a store; give the folder of a store")
        data = place.read(ROOT_DOCUMENT)
        version = None if data is None else _format_version(data)
        if version is not None and version > FORMAT_VERSION:
            raise HistoboostError(
                f"{place}: is of format {version}, this histoboost reads up to {FORMAT_VERSION}; "
                "install a newer histoboost"
            )
        entries = set(place.children(""))
        # A store with a damaged root document is still a store: `verify` reports the document.
        if version is not None or SLIDES in entries:
            return
        if self._mode == "r":
            raise HistoboostError(f"{place}: no store there; check the path, or featurize first")
        if entries - {STAGING, FOREIGN}:
            raise HistoboostError(f"{place}: is not a store; give a new or empty folder")

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise HistoboostError(f"{self.location}: was opened for reading; open it to write")

    def _make_root(self) -> None:
        for key, data in {
            ROOT_DOCUMENT: root_bytes(),
            f"{SLIDES}/{ROOT_DOCUMENT}": slides_bytes(),
        }.items():
            if self._place.read(key) != data:
                self._place.put(key, data)


def _format_version(data: bytes) -> int | None:
    try:
        version: Any = json.loads(data)["attributes"]["histoboost"]["format_version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None
