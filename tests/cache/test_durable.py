"""Visible files are on disk: every file is synced before it is renamed into place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError


@pytest.fixture
def calls(monkeypatch, real_sync) -> list[tuple[str, str]]:
    """Calls of fsync, rename, replace and link, in order."""
    seen: list[tuple[str, str]] = []

    def watch(name: str, describe) -> None:
        original = getattr(os, name)

        def watched(*args, **kwargs):
            seen.append((name, describe(*args)))
            return original(*args, **kwargs)

        monkeypatch.setattr(f"histoboost.cache.local.os.{name}", watched)

    watch("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    for name in ("rename", "replace", "link"):
        watch(name, lambda source, target: f"{source}\n{target}")
    return seen


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")


def test_files_are_synced_before_renaming_and_folders_after(tmp_path, calls, table, rows, put):
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(table())
    put(store, "S_1", "net@64", rows())
    synced: set[str] = set()
    names = 0
    for number, (call, what) in enumerate(calls):
        if call == "fsync":
            synced.add(what)
            continue
        source, target = what.split("\n")
        if Path(target).name.startswith("trash-"):
            continue
        names += 1
        assert source in synced, source
        if call == "link":
            continue  # a chunk that was synced when it was staged
        folder = str(Path(target).parent)
        later = {what for call, what in calls[number + 1 :] if call == "fsync"}
        assert folder in later, f"{folder} after {target} appeared"
        synced.add(target)
    assert names >= 3 + 3 + 2


def test_an_unsynced_chunk_counts_as_missing(
    store, half_written, rows, recipe, monkeypatch, real_sync
):
    def failing(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("histoboost.cache.local.os.fsync", failing)
        with pytest.raises(HistoboostError, match="Input/output error"):
            half_written.write(slice(1024, 2048), rows()[1024:2048])
    for writer in (half_written, store.writer("S_1", "net@64", recipe(), 2100, 3)):
        assert writer.missing == [slice(1024, 2048), slice(2048, 2100)]
