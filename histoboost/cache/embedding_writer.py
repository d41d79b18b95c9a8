"""Write an embedding chunk by chunk, resume after a kill, publish in one step.

A staged chunk is one file, ``chunks/<index>.<sha256>``. With the digest in its name, no separate
record can disagree with it, and processes whose results differ in the last bits do not overwrite
each other. Publication picks one file per chunk, reads it back, and makes all visible in one step
(see `backend`), so that an embedding is always self-consistent.

Precondition: all writers of a recipe compute what it specifies.
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
from histoboost.cache.published_embedding import (
    Published,
    chunk_path,
    damaged_chunks,
    open_published,
)
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput

# Slide on which this process last found an embedding, by store and name.
_seen: dict[tuple[str, str], str] = {}


class EmbeddingWriter:
    """Writes one embedding of one slide; created by `EmbeddingStore.writer`.

    Refuses a name that has a different recipe on this or another slide.
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
        identity = f"{slide}\n{name}\n{recipe.digest}\n{n_spots} {width}"
        self._staging = f"unit-{digest_bytes(identity.encode())[:32]}"
        self._hold: Hold | None = None
        self._seen: bytes | None = None
        self._check_elsewhere()
        self._published = self._is_intact()
        if self._published:
            self._drop_leftovers()
        else:
            self._hold = backend.hold(self._staging)
            self._label_staging()
            self._stage_intact()

    @property
    def published(self) -> bool:
        """Whether the embedding is complete and visible, by this process or another."""
        if not self._published and self._read_document() != self._seen:
            self._published = self._is_intact()
            if self._published:
                self.close()  # nothing is left to stage
        return self._published

    @property
    def missing(self) -> list[slice]:
        """Row ranges to compute, one per chunk, in order; empty once published."""
        if self.published:
            return []
        self._verify_staged()
        return [part for i, part in enumerate(self._slices) if i not in self._verified]

    def write(self, rows: slice, array: NDArray[np.floating[Any]]) -> None:
        """Stage one chunk durably: `array`, as float16, for `rows`, a range in `missing`."""
        if rows not in self._slices:
            raise BadInput(f"{self._what}: rows {rows} are not a chunk; write those in `missing`")
        expected = (rows.stop - rows.start, self._shape[1])
        if np.shape(array) != expected:
            raise BadInput(
                f"{self._what}: rows have shape {np.shape(array)}, not {expected}; "
                "one row per spot is required"
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
        """Make the embedding visible after reading back every chunk; False if it was already."""
        self._verified = {}  # read back even chunks of this process
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
        """Write the missing chunks of `rows`, (N, D), and `publish`."""
        for part in self.missing:
            self.write(part, rows[part])
        return self.publish()

    def close(self) -> None:
        """Give up the staging folder; unpublished chunks stay for a later run."""
        if self._hold is not None:
            self._hold.drop() if self._published else self._hold.release()

    @property
    def _what(self) -> str:
        return f"slide {self._slide}, embedding {self._name}"

    def _check_elsewhere(self) -> None:
        """Refuse a name with a different recipe on another slide."""
        key = str(self._backend), self._name
        # The last slide first, so that a run over many slides lists them only once.
        for other in chain([_seen.get(key, self._slide)], self._others()):
            if other == self._slide:
                continue
            try:
                stored = open_published(self._backend, other, self._name).recipe.without_slide()
            except Damaged:
                continue  # absent, or damage for `verify` to report
            found = stored.differences(self._recipe.without_slide())
            if found:
                raise BadInput(
                    f"{self._backend}: embedding {self._name} of slide {other} was stored with a "
                    f"different recipe ({'; '.join(found[:3])}); choose another name or remove it "
                    "first"
                )
            _seen[key] = other
            return  # all others were compared when they were written
        _seen[key] = self._slide  # once published, for the next slide

    def _others(self) -> Iterator[str]:
        yield from self._backend.folders(SLIDES)  # lists them only if needed

    def _read_document(self) -> bytes | None:
        return self._backend.read(f"{self._key}/{ROOT_DOCUMENT}")

    def _is_intact(self) -> bool:
        """Whether the embedding is published and intact; `_left` is a damaged one, if any."""
        self._left: Published | None = None
        self._seen = self._read_document()
        try:
            published = open_published(self._backend, self._slide, self._name)
        except Damaged:
            self._refuse_foreign()
            return False
        differences = published.recipe.differences(self._recipe)
        if published.shape != self._shape:
            differences.append(f"shape: {published.shape}, not {self._shape}")
        if differences:
            raise BadInput(
                f"{self._backend}: {self._what} was stored with a different recipe "
                f"({'; '.join(differences[:3])}); choose another name or remove it first"
            )
        if damaged_chunks(self._backend, published):
            self._refuse_foreign()
            self._left = published
            return False
        return True

    def _refuse_foreign(self) -> None:
        """Refuse to replace a damaged folder that contains foreign files."""
        if found := foreign_in_embedding(self._backend, self._slide, self._name):
            raise BadInput(
                f"{self._backend}: {self._what} is damaged and cannot be replaced because of "
                f"{self._key}/{found[0]}, which histoboost did not write; move it elsewhere"
            )

    def _stage_intact(self) -> None:
        """Reuse the intact chunks of a damaged embedding."""
        if self._left is None:
            return
        for index, digest in enumerate(self._left.chunks):
            data = self._backend.read(self._left.chunk_key(index))
            if data is not None and digest_bytes(data) == digest:
                self._backend.put(self._chunk_key(index, digest), data)

    def _drop_leftovers(self) -> None:
        """Delete staged files of a run that was killed right after publishing."""
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
        """Check new staged chunks against their digests."""
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
    """Convert to float16; refused if a value overflows."""
    half = round_to_float16(array)
    if not np.isfinite(half).all():
        raise BadInput(
            f"{what}: values are not finite in float16; check the images and the weights"
        )
    return half


def round_to_float16(array: NDArray[Any]) -> NDArray[np.float16]:
    """Convert to float16; values too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(array).astype(np.float16)
