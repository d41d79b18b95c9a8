"""What is visible has reached the disk: every file is synced before it gets its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError


@pytest.fixture
def calls(monkeypatch, real_sync) -> list[tuple[str, str]]:
    """The order in which files are closed, synced and named."""
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


def test_every_file_is_synced_before_it_is_named_and_its_folder_after(
    tmp_path, calls, table, rows, put
):
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
            continue  # taken away, not named
        names += 1
        if call == "link":
            # A chunk that was synced under the name it was staged with.
            assert source in synced, source
            continue
        if call == "replace":
            assert source in synced, source
        else:
            assert source in synced, f"folder {source}"
        folder = str(Path(target).parent)
        later = {what for call, what in calls[number + 1 :] if call == "fsync"}
        assert folder in later, f"{folder} after {target} appeared"
        synced.add(target)  # the same file under its new name
    assert names >= 3 + 3 + 2


def test_a_chunk_that_cannot_be_synced_is_not_taken_for_stored(
    store, rows, recipe, monkeypatch, real_sync
):
    writer = store.writer("S_1", "net@64", recipe(), 2100, 3)

    def failing(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("histoboost.cache.local.os.fsync", failing)
        with pytest.raises(HistoboostError, match="Input/output error"):
            writer.write(slice(0, 1024), rows()[:1024])
    assert len(writer.missing) == 3
    del writer
    assert len(store.writer("S_1", "net@64", recipe(), 2100, 3).missing) == 3
