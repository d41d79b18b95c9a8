"""The index of a large store agrees with its documents, or is ignored."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache import index
from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable

SLIDES = ["S_1", "S_2", "S_3"]


@pytest.fixture(autouse=True)
def index_small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST_SLIDES", 1)
    monkeypatch.setattr(index, "SETTLED_NS", 0)


def table(slide: str) -> SpotTable:
    return SpotTable(slide, np.arange(8.0).reshape(4, 2), tuple("abcd"))


def put(store: EmbeddingStore, slide: str, name: str) -> None:
    writer = store.writer(slide, name, Recipe({"backbone": "net", "slide_pixels": slide}), 4, 2)
    writer.write_all(np.ones((4, 2)))


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path / "store")
    for slide in SLIDES:
        store.write_spots(table(slide))
        put(store, slide, "net@1")
    store.summary()
    return store


def index_of(store: EmbeddingStore) -> Path:
    return Path(store.location, index.INDEX)


def from_documents(store: EmbeddingStore) -> list:
    """List the store without its index."""
    index_of(store).unlink(missing_ok=True)
    return EmbeddingStore(store.location, mode="r").summary()


def test_a_store_with_an_index_is_listed_without_reading_its_documents(store, monkeypatch):
    expected = from_documents(store)
    store.summary()
    monkeypatch.delattr(index, "open_slide")
    monkeypatch.setattr(index, "_read", None)
    assert store.summary() == expected


def relabel(store: EmbeddingStore) -> None:
    labels = np.ones((4, 2), np.float32)
    store.relabel([SpotTable("S_1", table("S_1").xy, tuple("abcd"), labels, ("x", "y"))])


CHANGES: dict[str, Callable[[EmbeddingStore], object]] = {
    "another embedding": lambda store: put(store, "S_2", "net@2"),
    "an embedding less": lambda store: store.remove("net@1", "S_2"),
    "one replaced": lambda store: (store.remove("net@1", "S_2"), put(store, "S_2", "net@1")),
    "another slide": lambda store: store.write_spots(table("S_4")),
    "a slide less": lambda store: store.remove(slide="S_2"),
    "other labels": relabel,
    "a damaged slide": lambda store: os.truncate(f"{store.location}/slides/S_2/zarr.json", 100),
    "a damaged embedding": lambda store: os.truncate(document(store), 100),
    "a missing document": lambda store: document(store).unlink(),
}


def document(store: EmbeddingStore) -> Path:
    return Path(store.location, "slides/S_2/obsm/net@1/zarr.json")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_since_the_index_was_written_are_listed(store, change):
    change(store)
    found = EmbeddingStore(store.location, mode="r").summary()
    assert found == from_documents(store)


def test_a_damaged_index_is_ignored(store):
    expected, rng = from_documents(store), np.random.default_rng(0)
    store.summary()
    intact = index_of(store).read_bytes()
    for _ in range(100):
        damaged = bytearray(intact)
        damaged[rng.integers(len(intact))] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.2:
            del damaged[rng.integers(len(intact)) :]
        index_of(store).write_bytes(damaged)
        assert EmbeddingStore(store.location, mode="r").summary() == expected


def test_very_recent_changes_are_not_indexed(store, monkeypatch):
    index_of(store).unlink()
    monkeypatch.setattr(index, "SETTLED_NS", 3600 * 10**9)
    store.summary()
    assert not index_of(store).exists()


def test_only_large_stores_open_for_writing_get_an_index(store, monkeypatch):
    index_of(store).unlink()
    EmbeddingStore(store.location, mode="r").summary()
    assert not index_of(store).exists()
    monkeypatch.setattr(index, "LEAST_SLIDES", 4)
    store.summary()
    assert not index_of(store).exists()


def test_a_store_on_a_read_only_disk_is_listed(store, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    expected = from_documents(store)
    monkeypatch.setattr("histoboost.cache.local._write", refuse)
    assert store.summary() == expected


def test_gc_removes_the_index_and_verify_accepts_it(store):
    assert not store.verify().damaged
    store.gc()
    assert not index_of(store).exists()


def work(location: str, number: int) -> None:
    """Add, list and remove embeddings on an own and a shared slide."""
    store = EmbeddingStore(location)
    for turn in range(6):
        own = f"T_{number}_{turn}"
        store.write_spots(table(own), order=100 + 10 * number + turn)
        put(store, own, "net@1")
        put(store, "S_1", f"net@{turn}")
        store.summary()
        if turn % 2:
            store.remove(slide=own)
        store.gc() if turn == 3 else store.summary()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_four_processes_that_write_and_list_leave_a_correct_index(store):
    start = multiprocessing.get_context("fork")
    workers = [start.Process(target=work, args=(store.location, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = EmbeddingStore(store.location, mode="r").summary()
    assert found == from_documents(store)
    assert {row.name: len(row.slides) for row in found}["net@1"] == 3 + 4 * 3
