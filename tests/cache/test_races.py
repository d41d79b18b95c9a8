"""What another process does between two steps of this one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache import liveness
from histoboost.cache.layout import ROOT_DOCUMENT, store_documents
from histoboost.cache.local import LocalBackend
from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_bytes


@pytest.mark.parametrize("step", ["read", "children"])
def test_a_store_that_another_process_makes_meanwhile_is_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(LocalBackend, step)

    def make_then_look(place: LocalBackend, key: str) -> object:
        monkeypatch.undo()
        place.put(ROOT_DOCUMENT, store_documents()[ROOT_DOCUMENT])  # the first thing it does
        return original(place, key)

    monkeypatch.setattr(LocalBackend, step, make_then_look)
    assert EmbeddingStore(tmp_path / "store").slides() == []


def test_a_staged_chunk_is_linked_although_another_process_stages_the_same_again(
    tmp_path: Path,
) -> None:
    # Linux refuses to link a file in the very moment in which a rename replaces it.
    place, data, done = LocalBackend(tmp_path), b"rows" * 100, threading.Event()
    held = place.hold("unit")
    (tmp_path / "slides").mkdir()
    staged = f".staging/unit/chunks/000000.{digest_bytes(data)}"
    place.put(staged, data)

    def stage_again() -> None:
        while not done.is_set():
            place.put(staged, data)

    other = threading.Thread(target=stage_again)
    other.start()
    try:
        for unit in range(2000):
            content = {"c/0/0": staged, "zarr.json": b"{}"}
            assert place.publish("unit", f"slides/{unit}", content, lambda: True)
    finally:
        done.set()
        other.join()
        held.drop()


def test_who_claims_a_staging_folder_while_its_last_owner_deletes_it_gets_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, claimed = tmp_path / "unit", []
    last = liveness.hold(folder)
    (folder / "chunks").mkdir()
    (folder / "chunks" / "0").write_bytes(b"")
    rmtree = liveness.shutil.rmtree

    def claim_then_delete(path: Path, **options: object) -> None:
        (path / "lock").unlink()  # its files go one by one
        claimed.append(liveness.hold(folder))
        assert [entry.name for entry in folder.iterdir()] == ["lock"]
        rmtree(path, **options)

    monkeypatch.setattr(liveness.shutil, "rmtree", claim_then_delete)
    last.drop()
    assert [entry.name for entry in folder.iterdir()] == ["lock"]
    assert liveness.abandoned(folder, 0) is None


def test_a_writer_that_finds_its_embedding_published_by_another_leaves_nothing_staged(
    store: EmbeddingStore, rows, recipe, table
) -> None:
    store.write_spots(table())
    data = rows()
    slow = store.writer("S_1", "net@64", recipe(), *data.shape)
    quick = store.writer("S_1", "net@64", recipe(), *data.shape)
    for part in quick.missing:
        quick.write(part, data[part])
    assert quick.publish()
    assert slow.published
    assert slow.missing == []
    assert not Path(store.location, ".staging").exists()
    np.testing.assert_array_equal(store.read("S_1", "net@64"), data)
