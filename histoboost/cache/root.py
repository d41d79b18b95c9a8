"""Open and check the root of a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    FORMAT_VERSION,
    ROOT_DOCUMENT,
    SLIDES,
    STAGING,
    bears_mark,
    slide_key,
    store_documents,
)
from histoboost.cache.local import LocalBackend
from histoboost.cache.objects import ObjectBackend
from histoboost.errors import BadInput


def open_backend(location: str) -> Backend:
    """Open the folder or bucket of a store, which need not exist yet."""
    if "://" in location:
        return ObjectBackend(location)
    path = Path(location)
    if path.is_symlink() and not path.exists():
        raise BadInput(f"{path}: is a dangling link; remove or repair it")
    refuse_file(path)
    return LocalBackend(path)


def refuse_file(path: Path) -> None:
    """Refuse a file given as a store."""
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path}: is a file, not a store; run histoboost featurize on it first")


def check_root(backend: Backend, mode: str) -> None:
    """Refuse non-stores, newer versions and, except in mode ``"a"``, missing stores."""
    # In this order: another process may be creating the store.
    entries = set(backend.children(""))
    version = _format_version(backend.read(ROOT_DOCUMENT))
    if version is not None and version > FORMAT_VERSION:
        raise BadInput(
            f"{backend}: has format version {version}, but this histoboost reads up to "
            f"{FORMAT_VERSION}; upgrade histoboost"
        )
    # A damaged root document still marks a store: `verify` reports it.
    if version is not None or _bears_mark(backend):
        return
    if mode != "a":
        raise BadInput(
            f"{backend}: no such store; check the path, or run histoboost featurize first"
        )
    if entries - {STAGING}:
        raise BadInput(f"{backend}: not a store; choose a new or empty folder")


def _bears_mark(backend: Backend) -> bool:
    """Whether histoboost wrote any document; a folder named `slides` proves nothing."""
    keys = [ROOT_DOCUMENT, f"{SLIDES}/{ROOT_DOCUMENT}"]
    keys += [f"{slide_key(name)}/{ROOT_DOCUMENT}" for name in backend.folders(SLIDES)]
    return any(map(bears_mark, backend.read_many(keys)))


def _format_version(data: bytes | None) -> int | None:
    try:
        version: Any = json.loads(data or b"")["attributes"]["histoboost"]["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


def make_root(backend: Backend) -> None:
    """Write the documents of the root if they are missing or differ."""
    for key, data in store_documents().items():
        if backend.read(key) != data:
            backend.put(key, data)
