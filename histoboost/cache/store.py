"""The embedding store: what `featurize` writes and `regress` reads.

See docs/store.md for the format, `writer` for how an embedding comes to be, and `backend` for what
the store asks of the file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from histoboost.cache.foreign import remove
from histoboost.cache.gc import OLDER_THAN_S, Collected, collect
from histoboost.cache.imports import read_arrays
from histoboost.cache.index import LEAST_SLIDES
from histoboost.cache.labels import relabel, relabelled
from histoboost.cache.pending import note_slides
from histoboost.cache.reader import StoreReader
from histoboost.cache.recipe import Recipe
from histoboost.cache.root import make_root
from histoboost.cache.source import write_source
from histoboost.cache.table import next_orders, slide_names, write_table
from histoboost.cache.writer import EmbeddingWriter
from histoboost.errors import BadInput
from histoboost.names import check_embedding_name
from histoboost.spots import SpotTable

__all__ = ["EmbeddingStore", "EmbeddingWriter", "Recipe", "SpotTable"]


class EmbeddingStore(StoreReader):
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
        if len(slides) >= LEAST_SLIDES:
            self.summary()  # so that whoever lists them next finds an index

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

    def note_source(self, slide: str, source: Mapping[str, Any]) -> None:
        """Remember what tells whether the image of a slide has changed."""
        self._check_writable()
        write_source(self._backend, slide, source)

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

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise BadInput(f'{self.location}: opened read-only; open it with mode="a"')
