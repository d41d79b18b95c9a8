"""Note of a slide's image, so that an unchanged image is not read again.

Not part of the spot table: if it is missing or damaged, the image is simply read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    FORMAT_VERSION,
    SOURCE_DOCUMENT,
    Damaged,
    group_document,
    seal,
    slide_key,
    unseal,
)
from histoboost.cache.table import open_slide, read_files


def read_source(backend: Backend, slide: str) -> dict[str, Any]:
    """Read the latest note; empty if it or the spot table is missing or damaged."""
    try:
        read_files(backend, open_slide(backend, slide))
        document = unseal(backend.read(f"{slide_key(slide)}/{SOURCE_DOCUMENT}") or b"")
    except Damaged:
        return {}
    return dict(document["attributes"]["histoboost"].get("source", {}))


def write_source(backend: Backend, slide: str, source: Mapping[str, Any]) -> None:
    """Note `source`, JSON values, unless unchanged."""
    if json.loads(json.dumps(source)) != read_source(backend, slide):
        own = {"format_version": FORMAT_VERSION, "source": dict(source)}
        document = {"encoding-type": "dict", "encoding-version": "0.1.0", "histoboost": own}
        key = f"{slide_key(slide)}/{SOURCE_DOCUMENT}"
        backend.put(key, seal(group_document(document)))
