"""Garbage collection takes what the dead have left and nothing of the living."""

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
    """A process that writes an embedding and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"holding\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_what_a_live_process_owns_is_kept_whatever_its_age(store, holder):
    for path in Path(store.location, ".staging").rglob("*"):
        os.utime(path, (0, 0))
    found = store.gc(older_than_s=0)
    assert (found.removed, found.kept) == (0, 1)
    assert len(staging(store)) == 1


def test_what_a_killed_process_left_is_removed_however_young(store, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    found = store.gc()
    assert (found.removed, found.kept) == (1, 0)
    assert found.removed_bytes > 1024 * 3 * 2
    assert staging(store) == []


def test_a_killed_process_never_blocks_the_next(store, holder, recipe):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    writer = store.writer("S_1", "held@1", recipe(), 2100, 3)
    assert len(writer.missing) == 3  # another recipe: nothing of the dead one is used


def test_a_stopped_process_is_alive(store, holder):
    holder.send_signal(signal.SIGSTOP)
    assert store.gc(older_than_s=0).kept == 1
    holder.send_signal(signal.SIGCONT)


def test_an_own_writer_is_kept_and_can_go_on(store, recipe, rows):
    writer = store.writer("S_1", "net@64", recipe(), 2100, 3)
    writer.write(writer.missing[0], rows()[:1024])
    assert store.gc(older_than_s=0).kept == 1
    for part in writer.missing:
        writer.write(part, rows()[part])
    assert writer.publish()
    assert staging(store) == []


def test_gc_leaves_published_embeddings_alone(store, put, files):
    put(store, "S_1", "net@64")
    before = files(store.location)
    assert store.gc().removed == 0
    assert files(store.location) == before


def test_leftovers_of_a_published_embedding_go_when_it_is_asked_for_again(store, put, recipe):
    writer = store.writer("S_1", "net@64", recipe(), 2100, 3)
    other = Path(store.location, ".staging", staging(store)[0])
    (other / "built-x").mkdir()
    put(store, "S_1", "net@64")  # publishes, and leaves the folder to the first writer
    assert len(staging(store)) == 1
    del writer
    assert put(store, "S_1", "net@64") == 0
    assert staging(store) == []
