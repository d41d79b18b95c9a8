"""Another process acts between two steps of this one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from histoboost.cache import liveness
from histoboost.cache.layout import ROOT_DOCUMENT, store_documents
from histoboost.cache.local import LocalBackend
from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_bytes


@pytest.mark.parametrize("step", ["read", "children"])
def test_a_store_that_another_process_is_creating_is_accepted(tmp_path, monkeypatch, step):
    original = getattr(LocalBackend, step)

    def make_then_look(place: LocalBackend, key: str) -> object:
        monkeypatch.undo()
        place.put(ROOT_DOCUMENT, store_documents()[ROOT_DOCUMENT])
        return original(place, key)

    monkeypatch.setattr(LocalBackend, step, make_then_look)
    assert EmbeddingStore(tmp_path / "store").slides() == []


def test_a_staged_chunk_is_linked_while_another_process_stages_it_again(tmp_path):
    # Linux refuses to link a file while a rename replaces it.
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


def test_a_staging_folder_claimed_while_its_owner_deletes_it_is_empty(tmp_path, monkeypatch):
    folder, claimed = tmp_path / "unit", []
    last = liveness.hold(folder)
    (folder / "chunks").mkdir()
    (folder / "chunks" / "0").write_bytes(b"")
    rmtree = liveness.shutil.rmtree

    def claim_then_delete(path: Path, **options: object) -> None:
        (path / "lock").unlink()
        claimed.append(liveness.hold(folder))
        assert [entry.name for entry in folder.iterdir()] == ["lock"]
        rmtree(path, **options)

    monkeypatch.setattr(liveness.shutil, "rmtree", claim_then_delete)
    last.drop()
    assert [entry.name for entry in folder.iterdir()] == ["lock"]
    assert liveness.abandoned(folder, 0) is None


def test_a_writer_whose_embedding_another_publishes_leaves_nothing_staged(store, half_written, put):
    put(store, "S_1", "net@64")
    assert half_written.published
    assert half_written.missing == []
    assert not Path(store.location, ".staging").exists()
