"""Write an embedding chunk by chunk, resume where a killed run stopped, publish in one step.

A staged chunk is one file, ``chunks/<index>.<sha256>``: its name is its digest, so it needs no
record that could disagree with it, and processes that compute the same chunk with last bits of
their own do not clobber each other. Publication picks one file for every chunk, reads it back,
and makes a folder of them visible in one step (see `backend`). So an embedding is always
consistent with itself, whoever wins.

Precondition: whoever writes under a recipe computes what that recipe says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.backend import Backend, Hold
from histoboost.cache.foreign import foreign_in_embedding
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    STAGING,
    Damaged,
    chunk_slices,
    embedding_document,
    embedding_key,
    encode_chunk,
    seal,
)
from histoboost.cache.pending import EMBEDDING_NOTE
from histoboost.cache.published import (
    Published,
    chunk_path,
    damaged_chunks,
    open_published,
)
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput

# Slide on which this process met an embedding last, by store and name.
_seen: dict[tuple[str, str], str] = {}


class EmbeddingWriter:
    """Writes one embedding of one slide. Made by `EmbeddingStore.writer`.

    A name that another recipe has, on this slide or another one, is refused.
    """

    def __init__(
        self, backend: Backend, slide: str, name: str, recipe: Recipe, n_spots: int, width: int
    ) -> None:
        self._backend = backend
        self._slide, self._name, self._recipe = slide, name, recipe
        self._shape = (n_spots, width)
        self._key = embedding_key(slide, name)
        self._slices = chunk_slices(n_spots)
        self._verified: dict[int, str] = {}
        self._staging = _staging_name(slide, name, recipe, self._shape)
        self._hold: Hold | None = None
        self._seen: bytes | None = None
        self._check_elsewhere()
        self._published = self._is_intact()
        if self._published:
            self._drop_leftovers()
        else:
            self._hold = backend.hold(self._staging)
            self._label_staging()
            self._stage_what_is_left()

    @property
    def published(self) -> bool:
        """Whether the embedding is complete and visible, by this process or another."""
        if not self._published and self._read_document() != self._seen:
            self._published = self._is_intact()
            if self._published:
                self.close()  # nothing more comes of it that could give the staging folder up
        return self._published

    @property
    def missing(self) -> list[slice]:
        """Row ranges still to compute, one per chunk, in order; empty once published."""
        if self.published:
            return []
        self._verify_staged()
        return [part for i, part in enumerate(self._slices) if i not in self._verified]

    def write(self, rows: slice, array: NDArray[np.floating[Any]]) -> None:
        """Store one chunk durably: `array` as float16 for `rows`, one of the ranges `missing`."""
        if rows not in self._slices:
            raise BadInput(f"{self._what}: rows {rows} are not a chunk; write those in `missing`")
        expected = (rows.stop - rows.start, self._shape[1])
        if np.shape(array) != expected:
            raise BadInput(
                f"{self._what}: rows have shape {np.shape(array)}, not {expected}; "
                "one row per spot is needed"
            )
        half = to_float16(array, self._what)
        index = self._slices.index(rows)
        if self.published or index in self._verified:
            return
        data = encode_chunk(half, self._shape[0])
        digest = digest_bytes(data)
        self._backend.put(self._chunk_key(index, digest), data)
        self._verified[index] = digest

    def publish(self) -> bool:
        """Make the embedding visible, after reading back every chunk; False if it was before."""
        self._verified = {}  # read everything back, also what this process wrote
        missing = len(self.missing)
        if self._published:
            return False
        if missing:
            raise BadInput(
                f"{self._backend}: {self._what}: {missing} chunks are missing; "
                "run the same command again"
            )
        chunks = [self._verified[index] for index in range(len(self._slices))]
        document = seal(embedding_document(self._recipe, *self._shape, chunks))
        content = {chunk_path(i): self._chunk_key(i, digest) for i, digest in enumerate(chunks)}
        mine = self._backend.publish(
            self._staging, self._key, {**content, ROOT_DOCUMENT: document}, self._is_intact
        )
        self._published = True
        self.close()
        return mine

    def write_all(self, rows: NDArray[np.floating[Any]]) -> bool:
        """Write what is missing of `rows`, (N, D), and publish; see `publish`."""
        for part in self.missing:
            self.write(part, rows[part])
        return self.publish()

    def close(self) -> None:
        """Give the staging folder up; what is staged but not published stays for a later run."""
        if self._hold is None:
            return
        if self._published:
            self._hold.drop()
        else:
            self._hold.release()

    @property
    def _what(self) -> str:
        return f"slide {self._slide}, embedding {self._name}"

    def _check_elsewhere(self) -> None:
        """Refuse a name that another recipe has on another slide."""
        place = str(self._backend), self._name
        # The one that had it last is asked first: a run over many slides lists them once.
        for other in chain([_seen.get(place, self._slide)], self._others()):
            if other == self._slide:
                continue
            try:
                stored = open_published(self._backend, other, self._name).recipe.without_slide()
            except Damaged:
                continue  # absent there, or for `verify` to report
            found = stored.differences(self._recipe.without_slide())
            if found:
                raise BadInput(
                    f"{self._backend}: embedding {self._name} is stored with another recipe for "
                    f"slide {other} ({'; '.join(found[:3])}); choose another name or "
                    "remove it first"
                )
            _seen[place] = other
            return  # the others were compared with it when they were written
        _seen[place] = self._slide  # if it is published, the next slide finds it here

    def _others(self) -> Iterator[str]:
        yield from self._backend.folders(SLIDES)  # not before they are asked for

    def _read_document(self) -> bytes | None:
        return self._backend.read(f"{self._key}/{ROOT_DOCUMENT}")

    def _is_intact(self) -> bool:
        """Whether it is there, intact and of this recipe; else `_left` is what is left of it."""
        self._left: Published | None = None
        self._seen = self._read_document()
        try:
            published = open_published(self._backend, self._slide, self._name)
        except Damaged:
            self._refuse_foreign()
            return False
        if published.recipe != self._recipe:
            differences = "; ".join(published.recipe.differences(self._recipe)[:3])
        elif published.shape != self._shape:
            differences = f"shape: {published.shape}, not {self._shape}"
        else:
            differences = ""
        if differences:
            raise BadInput(
                f"{self._backend}: {self._what} is stored with another recipe ({differences}); "
                "choose another name or remove it first"
            )
        if damaged_chunks(self._backend, published):
            self._refuse_foreign()
            self._left = published
            return False
        return True

    def _refuse_foreign(self) -> None:
        """A damaged embedding is replaced as a whole, and what is not ours would go with it."""
        if found := foreign_in_embedding(self._backend, self._slide, self._name):
            raise BadInput(
                f"{self._backend}: {self._what} is damaged and cannot be replaced while "
                f"{self._key}/{found[0]} is there, which is not of histoboost; move it elsewhere"
            )

    def _stage_what_is_left(self) -> None:
        """Take over the intact chunks of a damaged embedding: only the others are computed."""
        if self._left is None:
            return
        for index, digest in enumerate(self._left.chunks):
            data = self._backend.read(self._left.chunk_key(index))
            if data is not None and digest_bytes(data) == digest:
                self._backend.put(self._chunk_key(index, digest), data)

    def _drop_leftovers(self) -> None:
        """Delete what a run staged that was killed right after it had published."""
        if self._backend.children(f"{STAGING}/{self._staging}"):
            held = self._backend.abandoned(self._staging, older_than_s=0)
            if held is not None:
                held.drop()

    def _label_staging(self) -> None:
        key = f"{STAGING}/{self._staging}/{EMBEDDING_NOTE}"
        if self._backend.read(key) is None:
            label = {"slide": self._slide, "embedding": self._name, "shape": self._shape}
            self._backend.put(key, json.dumps(label).encode())

    def _chunk_key(self, index: int, digest: str) -> str:
        return f"{STAGING}/{self._staging}/chunks/{index:06d}.{digest}"

    def _verify_staged(self) -> None:
        """Compare staged chunks that were not looked at yet with their digests."""
        for file in self._backend.children(f"{STAGING}/{self._staging}/chunks"):
            index, _, digest = file.partition(".")
            if not index.isdigit() or int(index) in self._verified:
                continue
            key = f"{STAGING}/{self._staging}/chunks/{file}"
            data = self._backend.read(key)
            if data is not None and digest_bytes(data) == digest:
                self._verified[int(index)] = digest
            else:
                self._backend.delete(key)


def to_float16(array: NDArray[np.floating[Any]], what: str) -> NDArray[np.float16]:
    """`array` as float16; a value that does not fit is an error."""
    with np.errstate(over="ignore"):
        half = np.asarray(array).astype(np.float16)
    if not np.isfinite(half).all():
        raise BadInput(
            f"{what}: values are not finite in float16; check the images and the weights"
        )
    return half


def _staging_name(slide: str, name: str, recipe: Recipe, shape: tuple[int, int]) -> str:
    """Staging folder that only this embedding under this recipe uses."""
    identity = "\n".join([slide, name, recipe.digest, f"{shape[0]} {shape[1]}"])
    return f"unit-{digest_bytes(identity.encode())[:32]}"
