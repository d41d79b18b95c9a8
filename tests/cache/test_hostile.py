"""An untrusted store: unreadable parts are named, and the rest stays usable."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoboost.cache.layout import seal
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import DamagedStore, HistoboostError


@pytest.fixture
def two(tmp_path: Path, table: Any, rows: Any, recipe: Any, put: Any) -> EmbeddingStore:
    """Slides S_1 and S_2 with two chunks of net@64 each."""
    store = EmbeddingStore(tmp_path / "store")
    for seed, slide in enumerate(["S_1", "S_2"]):
        store.write_spots(table(slide, n=1100))
        put(store, slide, "net@64", rows(1100, 2, seed))
    return store


def folder(store: EmbeddingStore) -> Path:
    return Path(store.location)


@pytest.fixture
def commands(run: Any, two: EmbeddingStore) -> Any:
    """Exit codes of the commands that read a whole store; 1 of verify is for damage."""

    def codes() -> dict[str, int]:
        results = {name: run("cache", name, two.location) for name in ("list", "verify", "gc")}
        for result in results.values():
            assert result.exception is None or isinstance(result.exception, SystemExit)
        return {name: result.exit_code for name, result in results.items()}

    return codes


def test_chunks_that_changed_places_are_not_read(two):
    first, second = (folder(two) / f"slides/S_{i}/obsm/net@64/c/0/0" for i in (1, 2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    for slide in ("S_1", "S_2"):
        with pytest.raises(DamagedStore, match="chunk 0 does not match its digest"):
            two.read(slide, "net@64")


def test_a_half_synced_embedding_is_not_read(two, rows, put):
    """New metadata with an old chunk or vice versa, each intact."""
    target = folder(two) / "slides/S_1/obsm/net@64"
    old = {path: (target / path).read_bytes() for path in ("zarr.json", "c/1/0")}
    two.remove("net@64", "S_1")
    put(two, "S_1", "net@64", rows(1100, 2, 9))
    for path, data in old.items():
        new = (target / path).read_bytes()
        (target / path).write_bytes(data)
        with pytest.raises(DamagedStore, match="does not match its digest"):
            two.read("S_1", "net@64")
        (target / path).write_bytes(new)


def test_an_embedding_of_other_spots_is_not_read(two, table, rows, put):
    two.write_spots(table("S_3", n=900))
    put(two, "S_3", "net@64", rows(900, 2))
    source, target = (folder(two) / f"slides/{slide}/obsm/net@64" for slide in ("S_3", "S_1"))
    shutil.rmtree(target)
    shutil.copytree(source, target)
    with pytest.raises(DamagedStore, match="900 rows"):
        two.read("S_1", "net@64")
    assert any("900 rows" in damage.reason for damage in two.verify().damaged)


def reseal(path: Path, change: dict[str, Any], own: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    document.update(change)
    document["attributes"]["histoboost"].update(own)
    del document["attributes"]["histoboost"]["digest"]
    path.write_bytes(seal(document))


DEEP = b'{"attributes": {"histoboost": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


@pytest.mark.parametrize(
    "document",
    [
        DEEP,
        {"shape": [10**15, 10**6]},
        {"shape": [1100, 10**16]},
        {"shape": [0, 2]},
        {"shape": [-5, 2]},
        {"shape": [1e400, 2]},
        {"shape": "ab"},
        {"recipe": 3},
        {"chunks": [10**400, None]},
    ],
    ids=lambda document: str(document)[:30],
)
def test_a_hostile_document_of_an_embedding_is_named(two, commands, document):
    path = folder(two) / "slides/S_1/obsm/net@64/zarr.json"
    if isinstance(document, bytes):
        path.write_bytes(document)
    elif "shape" in document:
        reseal(path, document, {})
    else:
        reseal(path, {}, document)
    with pytest.raises(DamagedStore, match=r"S_1, embedding net@64: (zarr.json|chunk)"):
        two.read("S_1", "net@64")
    assert [(d.slide, d.embedding) for d in two.verify().damaged] == [("S_1", "net@64")]
    assert commands() == {"list": 0, "verify": 1, "gc": 0}


@pytest.mark.parametrize(
    "own", [DEEP, {"order": 1e400}, {"n_spots": None}, {"files": 3}, {"files": {"a": 1}}], ids=str
)
def test_a_hostile_document_of_a_slide_is_named(two, commands, own):
    path = folder(two) / "slides/S_1/zarr.json"
    path.write_bytes(own) if isinstance(own, bytes) else reseal(path, {}, own)
    with pytest.raises(DamagedStore, match="slide S_1: "):
        two.spots("S_1")
    assert ("S_1", None) in [(d.slide, d.embedding) for d in two.verify().damaged]
    assert commands()["verify"] == 1


def test_a_spot_table_with_a_sealed_huge_shape_is_named(two):
    from histoboost.digests import digest_bytes

    top = folder(two) / "slides/S_1"
    array = top / "obsm/spatial/zarr.json"
    document = json.loads(array.read_bytes())
    document["shape"] = [10**12, 2]
    array.write_text(json.dumps(document))
    files = json.loads((top / "zarr.json").read_bytes())["attributes"]["histoboost"]["files"]
    files["obsm/spatial/zarr.json"] = digest_bytes(array.read_bytes())
    reseal(top / "zarr.json", {}, {"files": files})
    with pytest.raises(DamagedStore, match="slide S_1: obsm/spatial"):
        two.spots("S_1")
    assert [(d.slide, d.embedding) for d in two.verify().damaged] == [("S_1", None)]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "unreadable"])
@pytest.mark.parametrize(
    "path", ["zarr.json", "slides/S_1/zarr.json", "slides/S_1/obsm/net@64/c/0/0"]
)
def test_what_is_no_readable_file_is_named_and_nobody_waits_for_it(
    two, commands, monkeypatch, path, kind
):
    target = folder(two) / path
    target.unlink()
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "device":
        target.symlink_to("/dev/zero")
    elif kind == "folder":
        target.mkdir()
    else:
        target.write_bytes(b"")
        original = os.open

        def refusing(path: str, *args: Any, **kwargs: Any) -> int:
            if str(path) == str(target):
                raise PermissionError(13, "Permission denied", path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", refusing)
    found = [d.reason for d in EmbeddingStore(two.location).verify().damaged]
    word = "Permission denied" if kind == "unreadable" else "not a regular file"
    assert any(f"cannot be read ({word})" in reason for reason in found), found
    assert commands()["verify"] == 1
    if path.endswith("0"):
        with pytest.raises(DamagedStore, match="chunk 0 cannot be read"):
            two.read("S_1", "net@64")
    assert kind != "pipe" or stat.S_ISFIFO(target.lstat().st_mode)


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_verified(two, monkeypatch):
    closed, original = folder(two) / "slides/S_1/obsm", os.scandir

    def refusing(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = two.verify()
    (damage,) = [d for d in found.damaged if d.slide == "S_1"]
    assert "S_1/obsm: cannot be read (Permission denied)" in damage.reason
    assert found.checked >= 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"7",
        b"[[], {}, 7]",
        b'{"slide": [], "embedding": {}, "shape": [1e400, 2]}',
        b'{"slide": "S_1", "embedding": "x", "shape": [1000000000000000, 2]}',
        b'{"S_9": []}',
    ],
)
def test_a_broken_staging_entry_ends_no_command(two, commands, content):
    for name in ("unit.json", "asked.json", "relabel.json"):
        entry = folder(two) / f".staging/{name.replace('.', '-')}"
        entry.mkdir(parents=True)
        (entry / name).write_bytes(content)
    (folder(two) / ".staging/a-file").write_bytes(content)
    (folder(two) / ".staging/odd/lock").mkdir(parents=True)
    assert commands() == {"list": 0, "verify": 0, "gc": 0}
    assert two.pending_slides() == []
    two.read("S_1", "net@64")


def test_a_link_that_leads_nowhere_spins_nowhere(tmp_path, table):
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for location in (tmp_path / "lost", tmp_path / "lost" / "store"):
        with pytest.raises(HistoboostError, match=r"dangling link|cannot be written"):
            EmbeddingStore(location).write_spots(table("S_1", n=5))
    store = EmbeddingStore(tmp_path / "store")
    store.create()
    staging = folder(store) / ".staging"
    staging.symlink_to(tmp_path / "nowhere")
    with pytest.raises(HistoboostError, match="is a link"):
        store.write_spots(table("S_1", n=5))
    staging.unlink()
    staging.write_text("a file")
    with pytest.raises(HistoboostError, match="cannot be written"):
        store.write_spots(table("S_1", n=5))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (np.random.default_rng(0).normal(2000, 1, (1100, 2)), False),
        (np.random.default_rng(0).normal(0, 3e-8, (1100, 2)), False),
        (np.random.default_rng(0).normal(0, 1, (1100, 2)), True),
        (np.random.default_rng(0).normal(30, 1, (1100, 2)), True),
        (np.full((1100, 2), 2000.3), True),
        (np.zeros((1100, 2), np.int64), True),
    ],
    ids=["far from 0", "tiny", "normal", "shifted", "constant", "integers"],
)
def test_values_that_float16_cannot_hold_apart_are_not_imported(two, tmp_path, values, kept):
    for slide in ("S_1", "S_2"):
        np.save(tmp_path / f"{slide}.npy", values)
    if kept:
        assert two.import_arrays("x", tmp_path) == ["S_1", "S_2"]
        return
    with pytest.raises(HistoboostError, match=r"S_1.npy: float16, .* 2 of 2 features"):
        two.import_arrays("x", tmp_path)
    assert "x" not in two.embeddings("S_1")


def test_an_archive_of_arrays_named_npy_is_refused(two, tmp_path):
    for slide in ("S_1", "S_2"):
        with (tmp_path / f"{slide}.npy").open("wb") as file:
            np.savez(file, a=np.zeros((1100, 2)))
    with pytest.raises(HistoboostError, match="S_1.npy: is an archive, not one array"):
        two.import_arrays("x", tmp_path)
