"""What listing read of a large store, so that what is as it was then need not be read again.

Nothing keeps the index up to date, and nothing has to: it is believed only of documents and folders
that have the inode, the size and the time of change that they had when it was made. So it never
says more than they do, whoever writes or dies meanwhile; what it does not know is read. Object
stores, where asking costs what reading does, have none.
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
from histoboost.cache.published import open_published
from histoboost.cache.table import is_embedding, open_slide
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput
from histoboost.names import is_embedding_name

#: All documents of fewer slides are read in a second.
LEAST_SLIDES = 1000

#: What changed later than this before it was read may change again within the same tick of a clock.
SETTLED_NS = 2_000_000_000

#: Named as what runs stage, so that `gc` takes it away, with what a kill left beside it.
INDEX = f"{STAGING}/index-{'0' * 32}/index"

Stamp = list[int] | None
Size = tuple[int, int, int]


class Index:
    """The embeddings of slides, from the index of a store or from their documents."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lines = _load(backend)
        self._news = False

    def embeddings(self, slide: str) -> dict[str, Size | None]:
        """Rows, columns and bytes by name, None where metadata are damaged.

        `Damaged` if those of the slide are.
        """
        folder = slide_key(slide)
        line = self._lines.get(slide, "[null,null,{}]")
        document, obsm, parts = json.loads(line)
        now = self._stamp(f"{folder}/{ROOT_DOCUMENT}"), self._stamp(f"{folder}/obsm")
        if now[0] is None or now[0] != document:
            open_slide(self._backend, slide)
        if now[1] is None or now[1] != obsm:
            there = filter(is_embedding_name, self._backend.folders(f"{folder}/obsm"))
            parts = {name: parts.get(name, [None, None]) for name in there}
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
        """Store what is known of `slides`, all of a store, if any of it is new."""
        if not self._news or len(slides) < LEAST_SLIDES:
            return
        lines = [f"{slide}\t{self._lines[slide]}" for slide in slides if slide in self._lines]
        body = "\n".join(lines).encode()
        with contextlib.suppress(
            BadInput
        ):  # where nothing can be written, listing only takes longer
            self._backend.put(INDEX, digest_bytes(body).encode() + b"\n" + body)

    def _stamp(self, key: str) -> Stamp:
        """What tells whether a document or folder has changed; None where nothing tells it yet."""
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
    """The lines of the index by slide; none where it is missing or damaged."""
    digest, _, body = (backend.read(INDEX) or b"").partition(b"\n")
    if not body or digest_bytes(body).encode() != digest:
        return {}
    return dict(line.split("\t", 1) for line in body.decode().split("\n"))
