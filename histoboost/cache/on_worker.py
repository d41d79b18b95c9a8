"""Open one store on several machines."""

from __future__ import annotations

import os
from pathlib import Path

from histoboost.cache.store import EmbeddingStore
from histoboost.cluster import worker_name
from histoboost.errors import BadInput, HistoboostError


def shared_location(store: EmbeddingStore) -> str:
    """Location of a store, valid in other processes."""
    location = store.location
    return location if "://" in location else os.fspath(Path(location).resolve())


def store_on_worker(location: str) -> EmbeddingStore:
    """Open an existing store on a worker."""
    try:
        return EmbeddingStore(location, mode="r+")
    except HistoboostError as error:
        raise BadInput(
            f"worker {worker_name()} cannot open the store {location}; use a shared file "
            f"system or object storage ({error})"
        ) from error
