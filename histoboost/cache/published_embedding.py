"""Read and check one published embedding of one slide, see `embedding_writer`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    Damaged,
    chunk_bytes,
    chunk_count,
    chunk_rows,
    embedding_key,
    read_document,
)
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput

# SHA-256 releases the GIL: digests are computed while reading.
_THREADS = 4


@dataclass(frozen=True)
class Published:
    """Metadata of an embedding: folder, shape (N, D), recipe, SHA-256 of every chunk."""

    key: str
    shape: tuple[int, int]
    recipe: Recipe
    chunks: tuple[str, ...]

    def chunk_key(self, index: int) -> str:
        """Key of a chunk."""
        return f"{self.key}/{chunk_path(index)}"


def chunk_path(index: int) -> str:
    """Path of a chunk within its embedding."""
    return f"c/{index}/0"


def open_published(backend: Backend, slide: str, name: str) -> Published:
    """Read the metadata of an embedding; raises `Damaged` if missing or changed."""
    key = embedding_key(slide, name)
    document = read_document(backend, key)
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        n_spots, width = map(int, document["shape"])
        published = Published(key, (n_spots, width), Recipe(own["recipe"]), tuple(own["chunks"]))
    except (ArithmeticError, BadInput, KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json does not describe an embedding") from error
    if n_spots < 1 or width < 1 or len(published.chunks) != chunk_count(n_spots):
        raise Damaged("zarr.json lists the wrong number of chunks")
    return published


def read_rows(backend: Backend, published: Published, wanted: slice) -> NDArray[np.float16]:
    """Read rows, (n, D) float16; raises `Damaged` if a chunk does not match its digest."""
    n_spots, width = published.shape
    start, stop, _ = wanted.indices(n_spots)
    height = chunk_rows(n_spots)
    chunks = range(start // height, -(-stop // height))
    try:
        # Includes the padding of the last chunk, so that chunks are read in place.
        rows = np.empty((len(chunks) * height, width), dtype="<f2")
    except (MemoryError, ValueError) as error:
        raise Damaged(f"zarr.json claims {n_spots} x {width} values") from error
    parts = rows.reshape(len(chunks), -1).view(np.uint8)
    targets = ((published.chunk_key(at), part.data) for at, part in zip(chunks, parts, strict=True))
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = []
        for index, part, rest in zip(chunks, parts, backend.fill(targets), strict=True):
            if rest is None:
                raise Damaged(f"chunk {index} {_fault(backend, published, index)}")
            digests.append(pool.submit(_digest, part.data, rest))
        for index, taken in zip(chunks, digests, strict=True):
            if taken.result() != published.chunks[index]:
                raise Damaged(f"chunk {index} {_fault(backend, published, index)}")
    first = chunks.start * height
    return rows[start - first : stop - first].astype(np.float16, copy=False)


def _digest(body: memoryview, rest: bytes) -> str:
    digest = hashlib.sha256(body)
    digest.update(rest)
    return digest.hexdigest()


def _fault(backend: Backend, published: Published, index: int) -> str:
    """How a damaged chunk differs."""
    data = backend.read(published.chunk_key(index))
    if data is None:
        return backend.fault(published.chunk_key(index))
    expected = chunk_bytes(*published.shape)
    if len(data) != expected:
        return f"has {len(data)} bytes, not {expected}"
    return "does not match its digest"


def damaged_chunks(backend: Backend, published: Published) -> dict[int, str]:
    """Index of every chunk that has changed, with how it differs."""
    keys = [published.chunk_key(index) for index in range(len(published.chunks))]
    stored = zip(published.chunks, backend.read_many(keys), strict=True)
    size = chunk_bytes(*published.shape)
    return {
        index: _fault(backend, published, index)
        for index, (digest, data) in enumerate(stored)
        if data is None or len(data) != size or digest_bytes(data) != digest
    }
