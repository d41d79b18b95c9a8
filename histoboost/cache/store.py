"""The embedding store: what `featurize` writes and `regress` reads.

See docs/store.md for the format, `writer` for how an embedding comes to be, and `place` for what
the store asks of the file system.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.backend import Place
from histoboost.cache.gc import OLDER_THAN_S, Collected, collect
from histoboost.cache.imports import import_recipe, read_arrays
from histoboost.cache.labels import relabelled, write_labels
from histoboost.cache.layout import (
    FORMAT_VERSION,
    ROOT_DOCUMENT,
    SLIDES,
    STAGING,
    Damaged,
    bears_mark,
    slide_key,
    store_documents,
    unit_key,
)
from histoboost.cache.listing import EmbeddingRow, list_embeddings
from histoboost.cache.local import LocalPlace
from histoboost.cache.objects import open_objects
from histoboost.cache.pending import ask, awaited
from histoboost.cache.published import Unit, open_unit, read_unit, strangers
from histoboost.cache.recipe import Recipe
from histoboost.cache.table import (
    SlideRecord,
    embedding_names,
    is_slide,
    next_orders,
    open_slide,
    read_table,
    slide_names,
    slide_strangers,
    write_table,
)
from histoboost.cache.verify import Verification, verify
from histoboost.cache.writer import EmbeddingWriter, to_float16
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
    mode : {"a", "r"}
        ``"a"`` reads and writes and makes the store where there is none; ``"r"`` only reads.

    Raises
    ------
    HistoboostError
        If it is not a store, was written by a newer version, or is absent in mode ``"r"``.
    """

    def __init__(self, location: str | os.PathLike[str], mode: Literal["r", "a"] = "a") -> None:
        self._place = _place(os.fspath(location))
        self._mode = mode
        self._check_root()

    @property
    def location(self) -> str:
        """Where the store is."""
        return str(self._place)

    def slides(self) -> list[str]:
        """Names of the slides, in the order in which they were written."""
        records = [(self._slide(name).order, name) for name in self._slide_names()]
        return [name for _, name in sorted(records)]

    def create(self) -> None:
        """Make the store where there is none; all that writes into one does so by itself."""
        self._check_writable()
        self._make_root()

    @contextmanager
    def asked(self, slides: Sequence[str]) -> Iterator[None]:
        """Note that `slides` are to be stored, until the block ends well.

        What is not stored when it ends in an error or a kill is `awaited`.
        """
        self.create()
        held = ask(self._place, slides)
        try:
            yield
        except BaseException:
            held.release()
            raise
        held.drop()

    def awaited(self) -> list[str]:
        """Slides that a run was to store which has not finished, as far as they are not there."""
        return awaited(self._place, self._slide_names())

    def orders(self, slides: Sequence[str]) -> dict[str, int]:
        """Places of slides in the order of `slides`, for those that are yet to be written too.

        Who has several processes write the slides of one source asks once, and gives each its
        place for `write_spots`.
        """
        return next_orders(self._place, slides)

    def write_spots(self, table: SpotTable, order: int | None = None) -> None:
        """Store the spots of a slide; does nothing if the same are stored already.

        Parameters
        ----------
        table : SpotTable
            The spots.
        order : int, optional
            Place of a slide that is new, from `orders`; by default after all others.

        Raises
        ------
        HistoboostError
            If other spots are stored for the slide; the message names the difference.
        """
        self._check_writable()
        self._make_root()
        write_table(self._place, table, order)

    def relabel(self, tables: Sequence[SpotTable]) -> dict[str, list[str]]:
        """Give stored slides the labels of `tables`; their embeddings stay.

        Labels are abundances, cell types, split and group; a group of which a table says nothing
        stays.

        Parameters
        ----------
        tables : sequence of SpotTable
            One for each slide to relabel, with the spots that are stored.

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
        new = [self._whole(partial(relabelled, self._place, t), t.slide) for t in tables]
        changes = {table.slide: write_labels(self._place, table) for table in new}
        return {slide: changed for slide, changed in changes.items() if changed}

    def spots(self, slide: str) -> SpotTable:
        """The spots of a slide."""
        record = self._slide(slide)
        return self._whole(lambda: read_table(self._place, record), slide)

    def embeddings(self, slide: str) -> dict[str, Recipe]:
        """Names of the complete embeddings of a slide, sorted, with their recipes."""
        return {
            name: self._unit(slide, name).recipe
            for name in embedding_names(self._place, self._slide(slide))
            if not self._place.in_progress(unit_key(slide, name))
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
            raise BadInput(
                f"slide {slide}: {n_spots} rows for {expected} spots; one row per spot is needed"
            )
        if width < 1:
            raise BadInput(f"embedding {name}: width {width}; at least 1 is needed")
        self._check_same_elsewhere(slide, name, recipe)
        return EmbeddingWriter(self._place, slide, name, recipe, n_spots, width)

    def verify(self) -> Verification:
        """Read every byte and list what is damaged."""
        return verify(self._place)

    def summary(self) -> list[EmbeddingRow]:
        """One row for each embedding: slides, shape, size, origin, completeness.

        A damaged slide counts as one that lacks the embedding.
        """
        return list_embeddings(self._place, self._slide_names())

    def gc(self, older_than_s: float = OLDER_THAN_S) -> Collected:
        """Remove what killed runs left staged; see `histoboost.cache.gc.collect`."""
        self._check_writable()
        return collect(self._place, older_than_s)

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
        if slide is not None and not self._is_slide(slide):
            self._slide(slide)  # says which there are
        if name is None and slide is None:
            raise BadInput(f"{self.location}: say which embedding or slide to remove")
        slides = self._slide_names() if slide is None else [slide]
        keys = {s: slide_key(s) if name is None else unit_key(s, name) for s in slides}
        if name is not None:
            check_embedding_name(name)
        for s, key in keys.items():
            self._refuse_foreign(key, *self._strangers(s, name))
        removed = [s for s, key in keys.items() if self._place.remove_folder(key)]
        if not removed:
            known = ", ".join(row.name for row in self.summary()) or "none"
            raise BadInput(f"{self.location}: no embedding {name!r}; there are {known}")
        return removed

    def _strangers(self, slide: str, name: str | None) -> list[str]:
        if name is not None:
            return strangers(self._place, slide, name)
        return slide_strangers(self._place, slide)

    def _refuse_foreign(self, key: str, *found: str) -> None:
        if found:
            raise BadInput(
                f"{self.location}: {key} holds {found[0]}, which histoboost did not write; move it "
                "elsewhere first, nothing was removed"
            )

    def import_arrays(self, name: str, directory: str | os.PathLike[str]) -> list[str]:
        """Store embeddings made elsewhere: ``directory/<slide>.npy`` or ``.h5`` for every slide.

        An ``.npy`` holds (N, D) in the store's order; an ``.h5`` is TRIDENT's or HEST's, whose
        patches are matched to spots by barcode or coordinates.

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
        arrays = read_arrays(Path(directory), tables)
        halves = {
            slide: to_float16(array, str(Path(directory, slide))) for slide, array in arrays.items()
        }
        writers = {
            slide: self.writer(slide, name, import_recipe(half, tables[slide]), *half.shape)
            for slide, half in halves.items()
        }
        stored = []
        for slide, writer in writers.items():
            for part in writer.missing:
                writer.write(part, halves[slide][part])
            if writer.publish():
                stored.append(slide)
        return stored

    def _slide_names(self) -> list[str]:
        """Folders of slides, sorted, less those that another process is publishing."""
        return [name for name in slide_names(self._place) if not self._unfinished(name)]

    def _is_slide(self, slide: str) -> bool:
        """Whether it is there, without a look at all the others."""
        return is_slide(self._place, slide) and not self._unfinished(slide)

    def _unfinished(self, slide: str) -> bool:
        key = slide_key(slide)
        return not self._place.exists(f"{key}/{ROOT_DOCUMENT}") and self._place.in_progress(key)

    def _check_same_elsewhere(self, slide: str, name: str, recipe: Recipe) -> None:
        for other in self._place.folders(SLIDES):
            if other == slide:
                continue
            try:
                stored = open_unit(self._place, other, name).recipe.without_slide()
            except Damaged:
                continue  # absent there, or for `verify` to report
            found = stored.differences(recipe.without_slide())
            if found:
                raise BadInput(
                    f"{self.location}: embedding {name} is stored with another recipe for slide "
                    f"{other} ({'; '.join(found[:3])}); choose another name or remove it first"
                )
            return  # the others were compared with it when they were written

    def _slide(self, slide: str) -> SlideRecord:
        check_slide_name(slide)
        if not self._is_slide(slide):
            known = ", ".join(self._slide_names()) or "none"
            raise BadInput(f"{self.location}: no slide {slide!r}; there are {known}")
        return self._whole(lambda: open_slide(self._place, slide), slide)

    def _unit(self, slide: str, name: str) -> Unit:
        check_slide_name(slide)
        check_embedding_name(name)
        if not self._place.exists(unit_key(slide, name)):
            known = ", ".join(embedding_names(self._place, self._slide(slide))) or "none"
            raise BadInput(
                f"{self.location}: no embedding {name!r} of slide {slide}; there are {known}"
            )
        return self._whole(lambda: open_unit(self._place, slide, name), slide, name)

    def _whole(self, read: Callable[[], T], slide: str, name: str | None = None) -> T:
        try:
            return read()
        except Damaged as damage:
            unit = f"slide {slide}" if name is None else f"slide {slide}, embedding {name}"
            raise BadInput(
                f"{self.location}: {unit}: {damage}; "
                "run the same featurize again to repair it, or remove it"
            ) from None

    def _check_root(self) -> None:
        place = self._place
        # The order matters: another process may be making the store.
        entries = set(place.children(""))
        data = place.read(ROOT_DOCUMENT)
        version = None if data is None else _format_version(data)
        if version is not None and version > FORMAT_VERSION:
            raise BadInput(
                f"{place}: is of format {version}, this histoboost reads up to {FORMAT_VERSION}; "
                "install a newer histoboost"
            )
        # A store with a damaged root document is still a store: `verify` reports the document.
        if version is not None or self._bears_mark():
            return
        if self._mode == "r":
            raise BadInput(f"{place}: no store there; check the path, or featurize first")
        if entries - {STAGING}:
            raise BadInput(f"{place}: is not a store; give a new or empty folder")

    def _bears_mark(self) -> bool:
        """Whether some document says that histoboost wrote it; a folder `slides` does not."""
        keys = [ROOT_DOCUMENT, f"{SLIDES}/{ROOT_DOCUMENT}"]
        keys += [f"{slide_key(name)}/{ROOT_DOCUMENT}" for name in self._place.folders(SLIDES)]
        return any(map(bears_mark, self._place.read_many(keys)))

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise BadInput(f"{self.location}: was opened for reading; open it to write")

    def _make_root(self) -> None:
        for key, data in store_documents().items():
            if self._place.read(key) != data:
                self._place.put(key, data)


def _place(location: str) -> Place:
    if "://" in location:
        return open_objects(location)
    path = Path(location)
    if path.is_symlink() and not path.exists():
        raise BadInput(f"{path}: is a link that leads nowhere; remove it, or mend it")
    if path.exists() and not path.is_dir():
        raise BadInput(
            f"{path}: is a file, not a store; give the folder that histoboost featurize makes of it"
        )
    return LocalPlace(path)


def _format_version(data: bytes) -> int | None:
    try:
        version: Any = json.loads(data)["attributes"]["histoboost"]["format_version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None
