"""Errors of the system are one line, and the store stays unchanged."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache import local
from histoboost.cache.layout import group_document, seal
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def refuse_from(monkeypatch, code: int, budget: int) -> None:
    """Fail writes beyond `budget` bytes, as on a full disk."""
    original, left = local._write, budget

    def write(path: Path, data: bytes) -> None:
        nonlocal left
        if len(data) > left:
            original(path, data[:left])
            raise OSError(code, os.strerror(code), str(path))
        left -= len(data)
        original(path, data)

    monkeypatch.setattr(local, "_write", write)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("budget", [0, 5000, 9000, 13000])
def test_a_failed_write_is_one_line_and_the_next_run_resumes(store, rows, put, files, code, budget):
    put(store, "S_1", "other@64", rows(seed=1))
    before = files(store.location)
    with pytest.MonkeyPatch.context() as patch:
        refuse_from(patch, code, budget)
        with pytest.raises(
            HistoboostError, match=rf"store: cannot be written \({os.strerror(code)}\); .*kept$"
        ) as caught:
            put(store, "S_1", "net@64", rows())
    assert "\n" not in str(caught.value)
    assert files(store.location) == before
    assert not store.verify().damaged
    assert put(store, "S_1", "net@64", rows()) <= 3 - budget // 6500
    np.testing.assert_array_equal(store.read("S_1", "net@64"), rows())


@pytest.mark.parametrize("budget", [0, 100, 2000, 30000, 60000])
def test_a_full_disk_during_writing_of_spots_leaves_no_partial_slide(tmp_path, table, budget):
    store = EmbeddingStore(tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        refuse_from(patch, errno.ENOSPC, budget)
        with pytest.raises(HistoboostError, match="No space left"):
            store.write_spots(table())
    assert EmbeddingStore(store.location).slides() == []
    store.write_spots(table())
    assert not store.verify().damaged


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX permissions")
def test_a_store_without_write_permission_is_read_and_refuses_in_one_line(
    store, put, rows, recipe, monkeypatch
):
    put(store, "S_1", "net@64")
    monkeypatch.chdir(store.location)
    for path in [Path(), *Path().rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def check() -> None:
        if os.geteuid() == 0:  # root may write everywhere
            os.setgid(65534)
            os.setuid(65534)
        public = EmbeddingStore(".")
        np.testing.assert_array_equal(public.read("S_1", "net@64"), rows())
        assert not public.verify().damaged
        refused = r"^\.: cannot be written \(Permission denied\); make it writable"
        with pytest.raises(HistoboostError, match=refused):
            public.writer("S_1", "new@64", recipe(), 2100, 3)

    process = multiprocessing.get_context("fork").Process(target=check)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_newer_version_is_refused(store):
    newer = seal(group_document({"histoboost": {"format_version": 2}}))
    Path(store.location, "zarr.json").write_bytes(newer)
    for mode in ("r", "a"):
        with pytest.raises(HistoboostError, match="format version 2, but .* reads up to 1;"):
            EmbeddingStore(store.location, mode=mode)


@pytest.mark.parametrize("part", ["slides/S_1", "slides/S_1/obsm/net@64"])
def test_a_newer_slide_or_embedding_is_refused_and_not_repaired(store, put, table, part):
    put(store, "S_1", "net@64")
    path = Path(store.location, part, "zarr.json")
    document = json.loads(path.read_bytes())
    document["attributes"]["histoboost"]["format_version"] = 2
    del document["attributes"]["histoboost"]["digest"]
    newer = seal(document)
    path.write_bytes(newer)
    with pytest.raises(HistoboostError, match="format version 2"):  # noqa: PT012
        store.write_spots(table())
        put(store, "S_1", "net@64")
    assert path.read_bytes() == newer


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HistoboostError, match="is a file, not a store"):
        EmbeddingStore(tmp_path / "file")


def test_a_store_opened_read_only_writes_nothing(store, table, recipe, files):
    before = files(store.location)
    reading = EmbeddingStore(store.location, mode="r")
    for call in (
        lambda: reading.write_spots(table("S_2")),
        lambda: reading.writer("S_1", "net@64", recipe(), 2100, 3),
        lambda: reading.remove("net@64"),
        lambda: reading.gc(),
        lambda: reading.import_arrays("net@64", "."),
    ):
        with pytest.raises(HistoboostError, match="opened read-only"):
            call()
    assert files(store.location) == before
