"""Where everything lies in a store, and what its metadata documents say.

Every document is Zarr's own ``zarr.json``. Ours carry, under ``attributes.histoboost``, a digest
of the rest of the document, and are written in one canonical way: a reader can tell a document
in which a single bit has changed. See docs/store.md for the format in prose.
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

# Words of every document of ours, of which any single damage leaves two.
_MARKS = (b'"histoboost"', b'"format_version"', b'"digest"')

_CRC_BYTES = 4

# The line of the digest in a document as `seal` writes it: no line of a text begins so.
_DIGEST = re.compile(rb'\n   "digest": "([0-9a-f]{64})",')
# What a row beyond the last spot holds in the last chunk: the array's fill value.
_FILL = np.float16(np.nan)


class Damaged(Exception):
    """Something in the store is not as it was written; the message says what, in a few words."""


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
    """The bytes of a chunk: rows, padding of the last chunk, little-endian crc32c."""
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
    """``zarr.json`` of the store itself and of the group that holds the slides, by key."""
    data = seal(group_document({"histoboost": {"format_version": FORMAT_VERSION}}))
    return {ROOT_DOCUMENT: data, f"{SLIDES}/{ROOT_DOCUMENT}": data}


def slide_document(
    order: int, n_spots: int, table_digest: str, files: dict[str, str]
) -> dict[str, Any]:
    """Metadata of a slide: an AnnData group with the digests of the files of its spot table."""
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
    """Metadata of an embedding: a float16 array with its recipe and the digest of every chunk."""
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
    """Write a document with the digest of the rest of it in ``attributes.histoboost.digest``."""
    own = {k: v for k, v in document["attributes"]["histoboost"].items() if k != "digest"}
    bare = {**document, "attributes": {**document["attributes"], "histoboost": own}}
    own = {**own, "digest": digest_bytes(_canonical(bare))}
    return _canonical({**bare, "attributes": {**bare["attributes"], "histoboost": own}})


def unseal(data: bytes) -> dict[str, Any]:
    """Read a document that `seal` wrote; `Damaged` if it is not ours or not as written."""
    try:
        document: dict[str, Any] = json.loads(data)
        own = document["attributes"]["histoboost"]
        intact = _is_sealed(data) and isinstance(own["format_version"], int)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged("zarr.json is damaged or was not written by histoboost") from error
    if not intact:
        raise Damaged("zarr.json does not match its digest")
    if own["format_version"] > FORMAT_VERSION:
        raise BadInput(
            f"store: is of format {own['format_version']}, this histoboost reads up to "
            f"{FORMAT_VERSION}; install a newer histoboost"
        )
    return document


def _is_sealed(data: bytes) -> bool:
    """Whether a document is as `seal` wrote it: without its digest's line it has that digest."""
    found = _DIGEST.search(data)
    if found is None:
        return False
    bare = data[: found.start()] + data[found.end() :]
    return digest_bytes(bare).encode() == found[1]


def read_document(backend: Backend, folder: str) -> dict[str, Any]:
    """The sealed ``zarr.json`` of a folder; errors as those of `unseal`, also if it is missing."""
    key = f"{folder}/{ROOT_DOCUMENT}"
    data = backend.read(key)
    if data is None:
        raise Damaged(f"zarr.json {backend.fault(key)}")
    return unseal(data)


def bears_mark(data: bytes | None) -> bool:
    """Whether a document is of histoboost, damaged or not."""
    return data is not None and sum(mark in data for mark in _MARKS) >= 2


def is_local_store(folder: Path) -> bool:
    """Whether a folder is a store, damaged or not."""
    root = folder / ROOT_DOCUMENT
    return root.is_file() and bears_mark(root.read_bytes())


def is_foreign_document(data: bytes | None) -> bool:
    """Whether a document is whole, but not of histoboost."""
    if data is None or bears_mark(data):
        return False
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _canonical(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
