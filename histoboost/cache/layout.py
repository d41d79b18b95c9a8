"""Paths and metadata documents of a store.

Every document is a Zarr ``zarr.json``. Ours are written in one canonical way, with a digest of the
rest of the document in ``attributes.histoboost``: a reader detects a single flipped bit.
See docs/store.md for the format.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from histoboost.cache.backend import Backend
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput

FORMAT_VERSION = 1
CHUNK_ROWS = 1024
STAGING = ".staging"
ROOT_DOCUMENT = "zarr.json"
SOURCE_DOCUMENT = "uns/source/zarr.json"
SLIDES = "slides"

# Words in each of our documents; at least two survive any single damage.
_MARKS = (b'"histoboost"', b'"format_version"', b'"digest"')

_CRC_BYTES = 4

# Line of the digest in a document from `seal`; no line of a string value begins like this.
_DIGEST = re.compile(rb'\n   "digest": "([0-9a-f]{64})",')
# Padding of the last chunk: the fill value of the array.
_FILL = np.float16(np.nan)


class Damaged(Exception):
    """Stored data differ from what was written; the message says how, in a few words."""


def slide_key(slide: str) -> str:
    """Folder of a slide."""
    return f"{SLIDES}/{slide}"


def embedding_key(slide: str, name: str) -> str:
    """Folder of an embedding of a slide."""
    return f"{SLIDES}/{slide}/obsm/{name}"


def chunk_rows(n_spots: int) -> int:
    """Rows of a chunk of an embedding with `n_spots` rows."""
    return min(n_spots, CHUNK_ROWS)


def chunk_count(n_spots: int) -> int:
    """Number of chunks of an embedding with `n_spots` rows."""
    return -(-n_spots // chunk_rows(n_spots)) if n_spots > 0 else 0


def chunk_slices(n_spots: int) -> list[slice]:
    """Row ranges of the chunks of an embedding with `n_spots` rows, in order."""
    step = chunk_rows(n_spots)
    return [slice(start, min(start + step, n_spots)) for start in range(0, n_spots, step)]


def encode_chunk(rows: NDArray[np.float16], n_spots: int) -> bytes:
    """Bytes of a chunk: rows, padding of the last chunk, little-endian crc32c."""
    height = chunk_rows(n_spots)
    if len(rows) < height:
        padding = np.full((height - len(rows), rows.shape[1]), _FILL)
        rows = np.concatenate([rows, padding])
    data = np.ascontiguousarray(rows, dtype="<f2").tobytes()
    crc: int = google_crc32c.value(data)
    return data + crc.to_bytes(_CRC_BYTES, "little")


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """Zarr metadata of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def store_documents() -> dict[str, bytes]:
    """``zarr.json`` of the store and of the group of slides, by key."""
    data = seal(group_document({"histoboost": {"format_version": FORMAT_VERSION}}))
    return {ROOT_DOCUMENT: data, f"{SLIDES}/{ROOT_DOCUMENT}": data}


def slide_document(
    order: int, n_spots: int, table_digest: str, files: dict[str, str]
) -> dict[str, Any]:
    """Metadata of a slide: an AnnData group with the digests of its spot table's files."""
    own = {
        "format_version": FORMAT_VERSION,
        "order": order,
        "n_spots": n_spots,
        "table_digest": table_digest,
        "files": files,
    }
    return group_document(
        {"encoding-type": "anndata", "encoding-version": "0.1.0", "histoboost": own}
    )


def embedding_document(
    recipe: Recipe, n_spots: int, width: int, chunks: list[str]
) -> dict[str, Any]:
    """Metadata of an embedding: a float16 array with its recipe and chunk digests."""
    own = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.fields,
        "recipe_digest": recipe.digest,
        "chunks": chunks,
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_spots, width],
        "data_type": "float16",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk_rows(n_spots), width]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "attributes": {"encoding-type": "array", "encoding-version": "0.2.0", "histoboost": own},
    }


def chunk_bytes(n_spots: int, width: int) -> int:
    """Size of every chunk of an embedding on disk."""
    return chunk_rows(n_spots) * width * 2 + _CRC_BYTES


def seal(document: dict[str, Any]) -> bytes:
    """Serialise a document with the digest of the rest in ``attributes.histoboost.digest``."""
    attributes = document["attributes"]
    own = {**attributes["histoboost"], "digest": digest_bytes(_canonical(document))}
    return _canonical({**document, "attributes": {**attributes, "histoboost": own}})


def unseal(data: bytes) -> dict[str, Any]:
    """Parse a document from `seal`; raises `Damaged` if it is foreign or has changed."""
    try:
        document: dict[str, Any] = json.loads(data)
        own = document["attributes"]["histoboost"]
        intact = _matches_digest(data) and isinstance(own["format_version"], int)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged("zarr.json is damaged or was not written by histoboost") from error
    if not intact:
        raise Damaged("zarr.json does not match its digest")
    if own["format_version"] > FORMAT_VERSION:
        raise BadInput(
            f"store: has format version {own['format_version']}, but this histoboost reads up to "
            f"{FORMAT_VERSION}; upgrade histoboost"
        )
    return document


def _matches_digest(data: bytes) -> bool:
    """Whether a document has the digest that it contains, without the line of the digest."""
    found = _DIGEST.search(data)
    return found is not None and digest_bytes(_DIGEST.sub(b"", data, 1)).encode() == found[1]


def read_document(backend: Backend, folder: str) -> dict[str, Any]:
    """Parse ``zarr.json`` of a folder like `unseal`; `Damaged` also if it is missing."""
    key = f"{folder}/{ROOT_DOCUMENT}"
    data = backend.read(key)
    if data is None:
        raise Damaged(f"zarr.json {backend.fault(key)}")
    return unseal(data)


def bears_mark(data: bytes | None) -> bool:
    """Whether histoboost wrote a document, damaged or not."""
    return data is not None and sum(mark in data for mark in _MARKS) >= 2


def is_local_store(folder: Path) -> bool:
    """Whether a folder is a store, damaged or not."""
    root = folder / ROOT_DOCUMENT
    return root.is_file() and bears_mark(root.read_bytes())


def is_foreign_document(data: bytes | None) -> bool:
    """Whether a document is valid JSON that histoboost did not write."""
    if data is None or bears_mark(data):
        return False
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _canonical(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
