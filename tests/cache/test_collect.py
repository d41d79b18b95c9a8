"""Garbage collection removes staged files of dead processes, never of live ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from histoboost.cache.store import EmbeddingStore

HOLD = """
import sys
from histoboost.cache.store import EmbeddingStore, Recipe
import numpy as np
store = EmbeddingStore(sys.argv[1])
writer = store.writer("S_1", "held@1", Recipe({"a": 1}), 2100, 3)
writer.write(writer.missing[0], np.ones((1024, 3)))
print("holding", flush=True)
sys.stdin.read()
"""


def staging(store: EmbeddingStore) -> list[str]:
    folder = Path(store.location, ".staging")
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.fixture
def holder(store):
    """A process that stages a chunk of an embedding and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"holding\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_staged_files_of_a_live_process_are_kept_at_any_age(store, holder):
    for path in Path(store.location, ".staging").rglob("*"):
        os.utime(path, (0, 0))
    found = store.gc(older_than_s=0)
    assert (found.removed, found.kept) == (0, 1)
    assert len(staging(store)) == 1


def test_staged_files_of_a_killed_process_are_removed_at_once(store, holder, recipe):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    writer = store.writer("S_1", "held@1", recipe(), 2100, 3)  # a different recipe
    assert len(writer.missing) == 3
    found = store.gc()
    assert (found.removed, found.kept) == (1, 1)
    assert found.removed_bytes > 1024 * 3 * 2
    del writer
    store.gc()
    assert staging(store) == []


def test_a_writer_of_this_process_survives_gc(store, half_written, rows):
    assert store.gc(older_than_s=0).kept == 1
    assert half_written.write_all(rows())
    assert staging(store) == []


def test_leftovers_of_a_published_embedding_are_removed_by_its_next_writer(store, put, recipe):
    writer = store.writer("S_1", "net@64", recipe(), 2100, 3)
    other = Path(store.location, ".staging", staging(store)[0])
    (other / "built-x").mkdir()
    put(store, "S_1", "net@64")  # publishes; the first writer still holds the folder
    assert len(staging(store)) == 1
    del writer
    assert put(store, "S_1", "net@64") == 0
    assert staging(store) == []
