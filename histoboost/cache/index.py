"""Cache of the metadata of a large store, so that listing reads only what has changed.

An entry counts only while inode, size and change time of its document or folder are those recorded.
So the index needs no updates and never contradicts the documents, whichever process writes or dies.
Object stores, where a stamp costs as much as reading, have no index.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    STAGING,
    Damaged,
    chunk_bytes,
    chunk_count,
    embedding_key,
    slide_key,
)
from histoboost.cache.published_embedding import open_published
from histoboost.cache.table import is_embedding, open_slide
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput
from histoboost.names import is_embedding_name

#: Smaller stores have no index: all their documents are read in a second.
LEAST_SLIDES = 1000

#: Documents that changed more recently may change again within one clock tick: not recorded.
SETTLED_NS = 2_000_000_000

#: Named like a staging folder, so that `gc` removes it with leftovers of killed runs.
INDEX = f"{STAGING}/index-{'0' * 32}/index"

Size = tuple[int, int, int]


class Index:
    """Embeddings of slides, from the index or from their documents."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lines = _load(backend)
        self._news = False

    def embeddings(self, slide: str) -> dict[str, Size | None]:
        """Rows, columns and bytes of each embedding; None if its metadata are damaged.

        Raises `Damaged` if the slide's are.
        """
        folder = slide_key(slide)
        line = self._lines.get(slide, "[null,null,{}]")
        document, obsm, parts = json.loads(line)
        now = self._stamp(f"{folder}/{ROOT_DOCUMENT}"), self._stamp(f"{folder}/obsm")
        if now[0] is None or now[0] != document:
            open_slide(self._backend, slide)
        if now[1] is None or now[1] != obsm:
            names = filter(is_embedding_name, self._backend.folders(f"{folder}/obsm"))
            parts = {name: parts.get(name, [None, None]) for name in names}
        found: dict[str, Size | None] = {}
        for name, (before, size) in parts.items():
            stamp = self._stamp(f"{embedding_key(slide, name)}/{ROOT_DOCUMENT}")
            if stamp is None and not is_embedding(self._backend, slide, name):
                continue
            if stamp is None or stamp != before:
                size = _read(self._backend, slide, name)
                parts[name] = [stamp, size]
            found[name] = size and tuple(size)
        known = json.dumps([*now, parts], separators=(",", ":"))
        if known != line:
            self._lines[slide] = known
            self._news |= now[0] is not None
        return found

    def keep(self, slides: Sequence[str]) -> None:
        """Write the index of `slides`, all of a store, if it is new."""
        if not self._news or len(slides) < LEAST_SLIDES:
            return
        lines = [f"{slide}\t{self._lines[slide]}" for slide in slides if slide in self._lines]
        body = "\n".join(lines).encode()
        with contextlib.suppress(BadInput):  # not writable: listing only takes longer
            self._backend.put(INDEX, digest_bytes(body).encode() + b"\n" + body)

    def _stamp(self, key: str) -> list[int] | None:
        """Stamp of a document or folder; None if it may change again unnoticed."""
        stamp = self._backend.stamp(key)
        return stamp if stamp and stamp[-1] < time.time_ns() - SETTLED_NS else None


def _read(backend: Backend, slide: str, name: str) -> Size | None:
    try:
        rows, width = open_published(backend, slide, name).shape
    except Damaged:
        return None
    document = backend.read(f"{embedding_key(slide, name)}/{ROOT_DOCUMENT}") or b""
    return rows, width, chunk_count(rows) * chunk_bytes(rows, width) + len(document)


def _load(backend: Backend) -> dict[str, str]:
    """Lines of the index by slide; empty if it is missing or damaged."""
    digest, _, body = (backend.read(INDEX) or b"").partition(b"\n")
    if not body or digest_bytes(body).encode() != digest:
        return {}
    return dict(line.split("\t", 1) for line in body.decode().split("\n"))
