"""Foreign files in a store are reported and kept; links out of it are not followed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.phantom import write_phantom


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Content of every path below a folder, and targets of links."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def filled(store, put) -> Path:
    """The folder of a store with an embedding."""
    put(store, "S_1", "net@64")
    return Path(store.location)


@pytest.fixture
def outside(tmp_path) -> Path:
    """Files of the user beside the store."""
    folder = tmp_path / "outside"
    (folder / "obsm").mkdir(parents=True)
    for name in ("a.txt", "obsm/b.txt", "lock", "owner.json"):
        (folder / name).write_text("mine")
    return folder


ZARR = {"zarr_format": 3, "node_type": "group", "attributes": {}}


@pytest.mark.parametrize(
    "there", ["slides/talk.pdf", "slides/S_1/notes.txt", "slides/zarr.json", "slides/S_1/zarr.json"]
)
@pytest.mark.parametrize(
    "command",
    [
        "featurize data.h5 . --backbone stain-texture --patch 16",
        *["cache list .", "cache gc .", "cache verify .", "cache remove . --slide S_1"],
    ],
)
def test_a_folder_named_slides_is_no_store(refusal, tmp_path, monkeypatch, there, command):
    write_phantom(tmp_path / "data.h5", slides=2, spots=12)
    for name, text in {".git/HEAD": "ref", "code.py": "1", there: json.dumps(ZARR)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "store" in refusal(*command.split())
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "path",
    [
        "mine.txt",
        ".git/HEAD",
        "slides/mine/a.txt",
        "slides/S_1/notes.txt",
        "slides/S_1/uns/x.txt",
        "slides/S_1/obsm/net@64/notes.txt",
        "slides/S_1/obsm/X_umap/zarr.json",
    ],
)
def test_foreign_files_are_reported_and_kept(filled, table, put, path) -> None:
    (filled / path).parent.mkdir(exist_ok=True, parents=True)
    (filled / path).write_text(json.dumps(ZARR))
    store = EmbeddingStore(filled)
    assert len(store.verify().damaged) == 1
    before = tree(filled)
    store.write_spots(table())
    assert put(store, "S_1", "net@64") == 0
    store.gc()
    assert tree(filled) == before
    if path.startswith("slides/S_1/"):
        with pytest.raises(HistoboostError, match="did not write"):
            store.remove(slide="S_1")
        assert tree(filled) == before
    if "net@64" in path:
        with pytest.raises(HistoboostError, match="did not write"):
            store.remove("net@64")
        (filled / "slides/S_1/obsm/net@64/c/1/0").unlink()
        with pytest.raises(HistoboostError, match="notes.txt, which histoboost did not write"):
            put(store, "S_1", "net@64")
    elif not path.endswith("X_umap/zarr.json"):
        assert store.remove("net@64") == ["S_1"]
    assert (filled / path).is_file()


def test_an_element_added_by_anndata_is_reported_and_not_removed_as_an_embedding(filled) -> None:
    import anndata
    import zarr

    group = zarr.open_group(filled / "slides/S_1", mode="r+")
    anndata.io.write_elem(group["obsm"], "X_umap", np.zeros((2100, 2)))
    before = tree(filled)
    (damage,) = EmbeddingStore(filled).verify().damaged
    assert (damage.slide, damage.embedding) == ("S_1", "X_umap")
    with pytest.raises(HistoboostError, match="did not write"):
        EmbeddingStore(filled).remove("X_umap")
    assert tree(filled) == before


def test_a_slide_of_another_program_is_neither_removed_nor_overwritten(filled, table) -> None:
    other = filled / "slides/S_9"
    (other / "obsm/x").mkdir(parents=True)
    (other / "obsm/x/a.txt").write_text("mine")
    store = EmbeddingStore(filled)
    with pytest.raises(HistoboostError, match="did not write"):
        store.remove(slide="S_9")
    (other / "zarr.json").write_text(json.dumps(ZARR))
    before = tree(filled)
    with pytest.raises(HistoboostError, match="was not written by histoboost"):
        store.write_spots(table("S_9"))
    with pytest.raises(HistoboostError, match="did not write"):
        store.remove(slide="S_9")
    assert tree(filled) == before


@pytest.mark.parametrize("document", [b"{", b"", b"\0" * 40, None])
def test_a_damaged_slide_of_ours_can_be_removed(filled, document) -> None:
    path = filled / "slides/S_1/zarr.json"
    path.unlink() if document is None else path.write_bytes(document)
    assert EmbeddingStore(filled).remove(slide="S_1") == ["S_1"]
    assert not (filled / "slides/S_1").exists()


def test_a_folder_of_the_user_among_what_is_staged_is_not_collected(filled, table) -> None:
    mine = filled / ".staging/mine/a.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    store = EmbeddingStore(filled)
    store.write_spots(table("S_2"))
    assert (store.gc(older_than_s=-1).removed, store.gc().kept) == (0, 1)
    assert mine.read_text() == "mine"


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "place",
    [".staging", ".staging/unit-0", "slides/S_2", "slides/S_1/obsm", "slides/S_1/obsm/other"],
)
def test_nothing_is_deleted_or_written_through_a_link(filled, outside, table, put, place) -> None:
    if place.endswith("/obsm"):
        for path in (filled / place).iterdir():
            path.rename(outside / "obsm" / path.name)
        (filled / place).rmdir()
        link(filled / place, outside / "obsm")
    else:
        link(filled / place, outside)
    before = tree(outside)
    store = EmbeddingStore(filled)
    reasons = [damage.reason for damage in store.verify().damaged]
    assert f"{place} is a link" in reasons
    attempts = [
        store.gc,
        lambda: store.remove("net@64"),
        lambda: store.remove("other"),
        lambda: store.remove(slide="S_2"),
        lambda: store.write_spots(table("S_2")),
        lambda: put(store, "S_1", "other"),
        lambda: store.relabel([table("S_1", split="Test")]),
        lambda: store.remove(slide="S_1"),
    ]
    for attempt in attempts:
        with contextlib.suppress(HistoboostError):
            attempt()
        assert tree(outside) == before


def test_a_store_may_be_a_link(filled, tmp_path, table) -> None:
    link(tmp_path / "alias", filled)
    EmbeddingStore(tmp_path / "alias").write_spots(table("S_2"))
    assert EmbeddingStore(filled, mode="r").slides() == ["S_1", "S_2"]
