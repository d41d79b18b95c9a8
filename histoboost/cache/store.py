"""The embedding store: what `featurize` writes and `regress` reads.

See docs/store.md for the format, `writer` for how an embedding comes to be, and `backend` for what
the store asks of the file system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.foreign import remove
from histoboost.cache.gc import OLDER_THAN_S, Collected, collect
from histoboost.cache.imports import read_arrays
from histoboost.cache.labels import relabel, relabelled
from histoboost.cache.layout import Damaged, embedding_key
from histoboost.cache.listing import EmbeddingRow, list_embeddings
from histoboost.cache.pending import (
    damaged_store,
    note_slides,
    pending_labels,
    pending_slides,
)
from histoboost.cache.published import Published, open_published, read_rows
from histoboost.cache.recipe import Recipe
from histoboost.cache.root import check_root, make_root, open_backend
from histoboost.cache.source import read_source, write_source
from histoboost.cache.table import (
    SlideRecord,
    embedding_names,
    is_slide,
    next_orders,
    open_slide,
    read_table,
    slide_names,
    write_table,
)
from histoboost.cache.verify import Verification, verify
from histoboost.cache.writer import EmbeddingWriter
from histoboost.errors import BadInput
from histoboost.names import check_embedding_name, check_slide_name
from histoboost.spots import SpotTable

__all__ = ["EmbeddingStore", "EmbeddingWriter", "Recipe", "SpotTable"]

T = TypeVar("T")


class EmbeddingStore:
    """Spots and embeddings of slides, on disk, in Zarr groups that AnnData can open.

    Parameters
    ----------
    location : str or path
        Folder of the store, or ``s3://bucket/prefix`` (``gs://``, ``az://``).
    mode : {"a", "r+", "r"}
        ``"a"`` reads and writes and makes the store where there is none; ``"r+"`` reads and writes
        one that is there; ``"r"`` only reads.

    Raises
    ------
    HistoboostError
        If it is not a store, was written by a newer version, or is absent and mode is not ``"a"``.
    """

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
        """Where the store is."""
        return str(self._backend)

    def slides(self) -> list[str]:
        """Names of the slides, in the order in which they were written."""
        records = [(self._slide(name).order, name) for name in slide_names(self._backend)]
        return [name for _, name in sorted(records)]

    def create(self) -> None:
        """Make the store where there is none; all that writes into one does so by itself."""
        self._check_writable()
        make_root(self._backend)

    @contextmanager
    def expecting(self, slides: Sequence[str]) -> Iterator[None]:
        """Note that `slides` are to be stored until the block ends well: see `pending_slides`."""
        self.create()
        held = note_slides(self._backend, slides)
        try:
            yield
        except BaseException:
            held.release()
            raise
        held.drop()

    def pending_slides(self) -> list[str]:
        """Slides that a run was to store which has not finished, as far as they are not there."""
        return pending_slides(self._backend, slide_names(self._backend))

    def pending_labels(self) -> list[str]:
        """Slides that a `relabel` which has not finished did not reach, or only half, sorted."""
        return pending_labels(self._backend)

    def orders(self, slides: Sequence[str]) -> dict[str, int]:
        """Numbers for `write_spots`, where several processes write the slides of one source."""
        return next_orders(self._backend, slides)

    def write_spots(self, table: SpotTable, order: int | None = None) -> None:
        """Store the spots of a slide; does nothing if the same are stored already.

        Parameters
        ----------
        table : SpotTable
            The spots.
        order : int, optional
            Number of a slide that is new, from `orders`; by default after all others.

        Raises
        ------
        HistoboostError
            If other spots are stored for the slide; the message names the difference.
        """
        self._check_writable()
        make_root(self._backend)
        write_table(self._backend, table, order)

    def relabel(self, tables: Sequence[SpotTable]) -> dict[str, list[str]]:
        """Give stored slides the labels of `tables`; their embeddings stay.

        Labels are abundances, cell types, split and group; a group of which a table says nothing
        stays.

        Returns
        -------
        dict of str to list of str
            Slides whose labels have changed, and what of them, a few words each.

        Raises
        ------
        HistoboostError
            If a slide is not stored, or with other spots; nothing is changed then.
        """
        self._check_writable()
        for table in tables:
            self._slide(table.slide)
        new = [self._intact(partial(relabelled, self._backend, t), t.slide) for t in tables]
        return relabel(self._backend, new)

    def spots(self, slide: str) -> SpotTable:
        """The spots of a slide."""
        record = self._slide(slide)
        return self._intact(lambda: read_table(self._backend, record), slide)

    def source(self, slide: str) -> dict[str, Any]:
        """What `note_source` noted last of the image of a slide."""
        return read_source(self._backend, slide)

    def note_source(self, slide: str, source: Mapping[str, Any]) -> None:
        """Remember what tells whether the image of a slide has changed."""
        self._check_writable()
        write_source(self._backend, slide, source)

    def embeddings(self, slide: str) -> dict[str, Recipe]:
        """Names of the complete embeddings of a slide, sorted, with their recipes."""
        return {
            name: self._published(slide, name).recipe
            for name in embedding_names(self._backend, self._slide(slide))
        }

    def width(self, slide: str, name: str) -> int:
        """Number of features, D, of an embedding."""
        return self._published(slide, name).shape[1]

    def read(self, slide: str, name: str) -> NDArray[np.float16]:
        """An embedding, (N, D) float16, rows in the order of the slide's spots.

        Raises
        ------
        HistoboostError
            If there is no such embedding, or it is damaged.
        """
        published = self._published(slide, name)
        rows = self._intact(lambda: read_rows(self._backend, published), slide, name)
        if len(rows) != self._slide(slide).n_spots:
            reason = f"has {len(rows)} rows, not one for each spot"
            raise damaged_store(self._backend, slide, name, reason)
        return rows

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
            raise BadInput(
                f"slide {slide}: {n_spots} rows for {expected} spots; one row per spot is required"
            )
        if width < 1:
            raise BadInput(f"embedding {name}: width {width}; at least 1 is needed")
        return EmbeddingWriter(self._backend, slide, name, recipe, n_spots, width)

    def verify(self) -> Verification:
        """Read every byte, and list what is damaged."""
        return verify(self._backend)

    def summary(self) -> list[EmbeddingRow]:
        """One row for each embedding: slides, shape, size, origin, completeness.

        A damaged slide counts as one that lacks the embedding.
        """
        return list_embeddings(self._backend, slide_names(self._backend))

    def gc(self, older_than_s: float = OLDER_THAN_S) -> Collected:
        """Remove what killed runs left staged; see `gc.collect`."""
        self._check_writable()
        return collect(self._backend, older_than_s)

    def remove(self, name: str | None = None, slide: str | None = None) -> list[str]:
        """Remove an embedding from one slide or all, or a slide with all its embeddings.

        Returns
        -------
        list of str
            Slides from which something was removed.

        Raises
        ------
        HistoboostError
            If neither is given, or nothing is called so.
        """
        self._check_writable()
        if name is None and slide is None:
            raise BadInput(f"{self.location}: name an embedding or a slide to remove")
        if name is not None:
            check_embedding_name(name)
        if slide is not None:
            self._check_slide(slide)
        return remove(self._backend, name, slide_names(self._backend) if slide is None else [slide])

    def import_arrays(self, name: str, directory: str | os.PathLike[str]) -> list[str]:
        """Store embeddings made elsewhere: ``directory/<slide>.npy`` or the like for every slide.

        An ``.npy`` holds (N, D) in the store's order; ``.h5`` (TRIDENT, HEST), ``.pt`` (slide2vec)
        and ``.zarr`` (raw2features, LazySlide) hold patches, matched to spots by barcode or
        coordinates.

        Returns
        -------
        list of str
            Slides for which an embedding was stored; those that had the same before are left out.

        Raises
        ------
        HistoboostError
            If a file is missing, belongs to no slide, or holds what does not fit; nothing is
            stored then.
        """
        self._check_writable()
        check_embedding_name(name)
        tables = {slide: self.spots(slide) for slide in self.slides()}
        arrays = read_arrays(Path(directory), tables, name)
        writers = {
            slide: self.writer(slide, name, recipe, *rows.shape)
            for slide, (rows, recipe) in arrays.items()
        }
        return [slide for slide, writer in writers.items() if writer.write_all(arrays[slide][0])]

    def _check_slide(self, slide: str) -> None:
        check_slide_name(slide)
        if not is_slide(self._backend, slide):
            known = ", ".join(slide_names(self._backend)) or "none"
            raise BadInput(f"{self.location}: no slide {slide!r}; there are {known}")

    def _slide(self, slide: str) -> SlideRecord:
        self._check_slide(slide)
        return self._intact(lambda: open_slide(self._backend, slide), slide)

    def _published(self, slide: str, name: str) -> Published:
        check_slide_name(slide)
        check_embedding_name(name)
        if not self._backend.exists(embedding_key(slide, name)):
            known = ", ".join(embedding_names(self._backend, self._slide(slide))) or "none"
            raise BadInput(
                f"{self.location}: no embedding {name!r} of slide {slide}; there are {known}"
            )
        return self._intact(lambda: open_published(self._backend, slide, name), slide, name)

    def _intact(self, read: Callable[[], T], slide: str, name: str | None = None) -> T:
        try:
            return read()
        except Damaged as damage:
            raise damaged_store(self._backend, slide, name, str(damage)) from None

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise BadInput(f'{self.location}: opened read-only; open it with mode="a"')
