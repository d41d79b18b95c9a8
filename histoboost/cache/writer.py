"""Write an embedding chunk by chunk, resume where a killed run stopped, publish in one step.

A staged chunk is one file, ``chunks/<index>.<sha256>``: its name is its digest, so it needs no
record that could disagree with it, and processes that compute the same chunk with last bits of
their own do not clobber each other. Publication picks one file for every chunk, reads it back,
and links them into a folder of its own, which becomes visible by one rename. So a published unit
is always consistent with itself, whoever wins.

Precondition: whoever writes under a recipe computes what that recipe says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.digests import digest_bytes
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    STAGING,
    Damaged,
    chunk_slices,
    encode_chunk,
    seal,
    unit_document,
    unit_key,
)
from histoboost.cache.place import LocalPlace
from histoboost.cache.recipe import Recipe
from histoboost.cache.unit import (
    Unit,
    chunk_path,
    damaged_chunks,
    foreign_files,
    open_unit,
)
from histoboost.errors import HistoboostError


class EmbeddingWriter:
    """Writes one unit: one embedding of one slide. Made by `EmbeddingStore.writer`.

    Parameters
    ----------
    place : LocalPlace
    slide, name : str
    recipe : Recipe
        Identity of what is written.
    n_spots, width : int
        Shape of the embedding, (N, D).

    Raises
    ------
    HistoboostError
        If the name is taken by another recipe.
    """

    def __init__(
        self, place: LocalPlace, slide: str, name: str, recipe: Recipe, n_spots: int, width: int
    ) -> None:
        self._place = place
        self._slide, self._name, self._recipe = slide, name, recipe
        self._shape = (n_spots, width)
        self._slices = chunk_slices(n_spots)
        self._verified: dict[int, str] = {}
        self._published = self._is_intact()
        if self._published:
            return
        self._staging = staging_name(slide, name, recipe, n_spots, width)
        self._hold = place.hold(self._staging)
        self._stage_what_is_left()

    @property
    def published(self) -> bool:
        """Whether the unit is complete and visible, by this process or another."""
        if not self._published and self._damage is None and self._exists():
            self._published = self._is_intact()
        return self._published

    @property
    def missing(self) -> list[slice]:
        """Row ranges still to compute, one per chunk, in order; empty once published."""
        if self.published:
            return []
        self._verify_staged()
        return [part for i, part in enumerate(self._slices) if i not in self._verified]

    def write(self, rows: slice, array: NDArray[np.floating]) -> None:
        """Store one chunk durably.

        Parameters
        ----------
        rows : slice
            One of `missing`.
        array : ndarray of shape (rows.stop - rows.start, D)
            Converted to float16.

        Raises
        ------
        HistoboostError
            If the shape is wrong or a value is not finite in float16.
        """
        if rows not in self._slices:
            raise HistoboostError(f"{self._what}: {rows} is no chunk; write those of `missing`")
        expected = (rows.stop - rows.start, self._shape[1])
        if np.shape(array) != expected:
            raise HistoboostError(
                f"{self._what}: rows have shape {np.shape(array)}, not {expected}; "
                "one row per spot is needed"
            )
        half = to_float16(array, self._what)
        index = self._slices.index(rows)
        if self.published or index in self._verified:
            return
        data = encode_chunk(half, self._shape[0])
        digest = digest_bytes(data)
        self._place.put(self._chunk_key(index, digest), data)
        self._verified[index] = digest

    def publish(self) -> bool:
        """Make the unit visible, after reading back every chunk.

        Returns
        -------
        bool
            True if this call published it, False if it had been published before.

        Raises
        ------
        HistoboostError
            If chunks are missing.
        """
        if self.published:
            self.close()
            return False
        self._verified = {}  # read everything back, also what this process wrote
        if self.missing:
            raise HistoboostError(
                f"{self._what}: {len(self.missing)} chunks are missing; compute them first"
            )
        chunks = [self._verified[index] for index in range(len(self._slices))]
        document = seal(unit_document(self._recipe, *self._shape, chunks))
        content = {chunk_path(i): self._chunk_key(i, digest) for i, digest in enumerate(chunks)}
        mine = self._place.publish(
            self._staging,
            unit_key(self._slide, self._name),
            {**content, ROOT_DOCUMENT: document},
            superseded=self._is_intact,
        )
        self._published = True
        self.close()
        return mine

    def close(self) -> None:
        """Give the staging folder up; what is staged but not published stays for a later run."""
        if not hasattr(self, "_hold"):
            return
        if self._published:
            self._hold.drop()
        else:
            self._hold.release()

    @property
    def _what(self) -> str:
        return f"slide {self._slide}, embedding {self._name}"

    def _exists(self) -> bool:
        return self._place.exists(f"{unit_key(self._slide, self._name)}/{ROOT_DOCUMENT}")

    def _is_intact(self) -> bool:
        """Whether the unit is there, whole, and of this recipe; notes in `_damage` if damaged."""
        self._damage: Unit | str | None = None
        try:
            unit = open_unit(self._place, self._slide, self._name)
        except Damaged as damage:
            self._damage = str(damage) if self._place.exists(self._key) else None
            return False
        if unit.recipe != self._recipe:
            raise HistoboostError(
                f"{self._place}: {self._what} is stored with another recipe "
                f"({'; '.join(unit.recipe.differences(self._recipe)[:3])}); "
                "choose another name or remove it first"
            )
        if unit.shape != self._shape:
            raise HistoboostError(
                f"{self._place}: {self._what} is stored with shape {unit.shape}, "
                f"not {self._shape}; choose another name or remove it first"
            )
        if damaged_chunks(self._place, unit) or foreign_files(self._place, unit):
            self._damage = unit
            return False
        return True

    @property
    def _key(self) -> str:
        return unit_key(self._slide, self._name)

    def _chunk_key(self, index: int, digest: str) -> str:
        return f"{STAGING}/{self._staging}/chunks/{index:06d}.{digest}"

    def _stage_what_is_left(self) -> None:
        """Take over the whole chunks of a damaged unit, so that only the others are computed."""
        if not isinstance(self._damage, Unit):
            return
        for index, digest in enumerate(self._damage.chunks):
            data = self._place.read(self._damage.chunk_key(index))
            if data is not None and digest_bytes(data) == digest:
                self._place.put(self._chunk_key(index, digest), data)

    def _verify_staged(self) -> None:
        """Compare staged chunks that were not looked at yet with their digests."""
        for file in self._place.children(f"{STAGING}/{self._staging}/chunks"):
            index, _, digest = file.partition(".")
            if not index.isdigit() or int(index) in self._verified:
                continue
            key = f"{STAGING}/{self._staging}/chunks/{file}"
            data = self._place.read(key)
            if data is not None and digest_bytes(data) == digest:
                self._verified[int(index)] = digest
            else:
                self._place.delete(key)


def staging_name(slide: str, name: str, recipe: Recipe, n_spots: int, width: int) -> str:
    """Staging folder that only this unit under this recipe uses."""
    identity = "\n".join([slide, name, recipe.digest, str(n_spots), str(width)])
    return f"unit-{digest_bytes(identity.encode())[:32]}"


def to_float16(array: NDArray[np.floating], what: str) -> NDArray[np.float16]:
    """`array` as float16; a value that does not fit is an error."""
    with np.errstate(over="ignore"):
        half = np.asarray(array).astype(np.float16)
    if not np.isfinite(half).all():
        raise HistoboostError(
            f"{what}: holds values that are not finite in float16; look at input and weights"
        )
    return half
