"""The embedding store, written by `featurize` and read by `regress`.

See docs/store.md for the format, `writer` for the life of an embedding, and `backend` for the
storage interface.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from histoboost.cache.embedding_writer import EmbeddingWriter
from histoboost.cache.foreign import remove
from histoboost.cache.gc import OLDER_THAN_S, Collected, collect
from histoboost.cache.imports import read_arrays
from histoboost.cache.index import LEAST_SLIDES
from histoboost.cache.labels import relabel, with_labels
from histoboost.cache.pending import note_slides
from histoboost.cache.reader import StoreReader
from histoboost.cache.recipe import Recipe
from histoboost.cache.root import make_root
from histoboost.cache.source import write_source
from histoboost.cache.table import next_orders, slide_names, write_table
from histoboost.errors import BadInput
from histoboost.names import check_embedding_name
from histoboost.spots import SpotTable

__all__ = ["EmbeddingStore", "EmbeddingWriter", "Recipe", "SpotTable"]


class EmbeddingStore(StoreReader):
    """Spots and embeddings of slides in Zarr groups that AnnData can open.

    Parameters
    ----------
    location : str or path
        Folder of the store, or ``s3://bucket/prefix`` (``gs://``, ``az://``).
    mode : {"a", "r+", "r"}
        ``"a"`` reads and writes, creating the store if absent; ``"r+"`` reads and writes an
        existing store; ``"r"`` only reads.

    Raises
    ------
    HistoboostError
        If it is not a store, was written by a newer version, or is absent and mode is not ``"a"``.
    """

    def create(self) -> None:
        """Create the store if absent, as every writing method does."""
        self._check_writable()
        make_root(self._backend)

    @contextmanager
    def expecting(self, slides: Sequence[str]) -> Iterator[None]:
        """Note `slides` as pending until the block succeeds: see `pending_slides`."""
        self.create()
        held = note_slides(self._backend, slides)
        try:
            yield
        except BaseException:
            held.release()
            raise
        held.drop()
        if len(slides) >= LEAST_SLIDES:
            self.summary()  # writes the index for the next listing

    def orders(self, slides: Sequence[str]) -> dict[str, int]:
        """Numbers for `write_spots`, if several processes write the slides of one source."""
        return next_orders(self._backend, slides)

    def write_spots(self, table: SpotTable, order: int | None = None) -> None:
        """Store the spots of a slide, unless they are stored already.

        Parameters
        ----------
        table : SpotTable
            The spots.
        order : int, optional
            Position of a new slide, from `orders`; by default last.

        Raises
        ------
        HistoboostError
            If different spots are stored for the slide; the message names the difference.
        """
        self._check_writable()
        make_root(self._backend)
        write_table(self._backend, table, order)

    def relabel(self, tables: Sequence[SpotTable]) -> dict[str, list[str]]:
        """Replace the labels of stored slides by those of `tables`, keeping the embeddings.

        Labels are abundances, cell types, split and group; the stored group stays if a table has
        none.

        Returns
        -------
        dict of str to list of str
            Changes of each slide whose labels have changed, a few words each.

        Raises
        ------
        HistoboostError
            If a slide is not stored, or with different spots; then nothing changes.
        """
        self._check_writable()
        for table in tables:
            self._slide(table.slide)
        new = [self._intact(partial(with_labels, self._backend, t), t.slide) for t in tables]
        return relabel(self._backend, new)

    def note_source(self, slide: str, source: Mapping[str, Any]) -> None:
        """Note a description of a slide's image, to detect changes."""
        self._check_writable()
        write_source(self._backend, slide, source)

    def writer(
        self, slide: str, name: str, recipe: Recipe, n_spots: int, width: int
    ) -> EmbeddingWriter:
        """Begin or resume writing an embedding of a slide whose spots are stored.

        Raises
        ------
        HistoboostError
            If the name is invalid, or has a different recipe on any slide.
        """
        self._check_writable()
        check_embedding_name(name)
        expected = self._slide(slide).n_spots
        if n_spots != expected:
            raise BadInput(
                f"slide {slide}: {n_spots} rows for {expected} spots; one row per spot is required"
            )
        if width < 1:
            raise BadInput(f"embedding {name}: width {width}; at least 1 is required")
        return EmbeddingWriter(self._backend, slide, name, recipe, n_spots, width)

    def gc(self, older_than_s: float = OLDER_THAN_S) -> Collected:
        """Remove staged files of killed runs; see `gc.collect`."""
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
            If neither is given, or there is nothing of that name.
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
        """Import embeddings of other programs, one file ``directory/<slide>.npy`` per slide.

        An ``.npy`` file contains (N, D) in the store's order; ``.h5`` (TRIDENT, HEST), ``.pt``
        (slide2vec) and ``.zarr`` (raw2features, LazySlide) contain patches, which are matched to
        spots by barcode or coordinates.

        Returns
        -------
        list of str
            Slides whose embedding was stored, without those that had the same already.

        Raises
        ------
        HistoboostError
            If a file is missing, matches no slide or has unsuitable content; then nothing is
            stored.
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

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise BadInput(f'{self.location}: opened read-only; open it with mode="a"')
