"""Every version reads the stores of all released format versions.

Each archive in ``data`` was written by `write` of the version in its name. Never rewrite one: add
the next.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from histoboost.cache.layout import FORMAT_VERSION
from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable

DATA = Path(__file__).with_name("data")
ARCHIVES = sorted(DATA.glob("store-format-*.zip"))

ROWS = np.arange(-10, 14, dtype=np.float16).reshape(8, 3) / 4
RECIPE = Recipe({"backbone": "net", "mean": [0.485, 0.456], "patch_px": 64, "weights": "ü"})
LABELLED = SpotTable(
    "Größe 1",
    np.arange(16.0).reshape(8, 2) * 25.9,
    tuple(f"AAAC-{i}" for i in range(8)),
    abundance=np.linspace(1e-6, 9, 16, dtype=np.float32).reshape(8, 2),
    cell_types=("B cell", "Kupffer/ü"),
    split="Train",
    group="A",
    um_per_px=4.4,
    image_shape=(300, 400),
)
BARE = SpotTable("S_7", np.ones((1, 2)), ("0",))


def write(location: Path) -> None:
    """Write the content of the archives."""
    store = EmbeddingStore(location)
    for table in (LABELLED, BARE):
        store.write_spots(table)
    store.writer(LABELLED.slide, "net@64", RECIPE, *ROWS.shape).write_all(ROWS)


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def archived(request, tmp_path) -> EmbeddingStore:
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return EmbeddingStore(tmp_path / "store", mode="r")


def test_there_is_an_archive_of_this_version():
    assert DATA / f"store-format-{FORMAT_VERSION}.zip" in ARCHIVES


def test_an_archived_store_is_read(archived):
    assert archived.slides() == ["Größe 1", "S_7"]
    for table in (LABELLED, BARE):
        assert archived.spots(table.slide).differences(table) == []
    assert archived.embeddings("Größe 1") == {"net@64": RECIPE}
    assert archived.embeddings("S_7") == {}
    np.testing.assert_array_equal(archived.read("Größe 1", "net@64"), ROWS)
    assert archived.verify().damaged == ()


def test_anndata_reads_an_archived_store(archived):
    import anndata

    adata = anndata.read_zarr(Path(archived.location, "slides", "Größe 1"))
    np.testing.assert_array_equal(adata.obsm["net@64"], ROWS)
    np.testing.assert_array_equal(adata.obsm["abundance"], LABELLED.abundance)


def test_an_archived_store_can_be_written_on(archived):
    store = EmbeddingStore(archived.location)
    assert store.writer("S_7", "net@64", RECIPE, 1, 3).write_all(ROWS[:1])
    assert store.writer("Größe 1", "net@64", RECIPE, *ROWS.shape).published


def canonical(document: dict) -> bytes:
    """Canonical JSON of docs/store.md."""
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def test_docs_store_md_suffices_to_read_a_store(archived):
    """An independent reader, written from docs/store.md."""
    folder = Path(archived.location, "slides", "Größe 1", "obsm", "net@64")
    text = (folder / "zarr.json").read_bytes()
    document = json.loads(text)
    own = document["attributes"]["histoboost"]
    assert canonical(document) == text
    digest = own.pop("digest")
    assert hashlib.sha256(canonical(document)).hexdigest() == digest
    recipe = json.dumps(
        own["recipe"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    assert hashlib.sha256(recipe).hexdigest() == own["recipe_digest"]
    n, d = document["shape"]
    height = min(n, 1024)
    rows = []
    for index, expected in enumerate(own["chunks"]):
        data = (folder / "c" / str(index) / "0").read_bytes()
        assert len(data) == 2 * height * d + 4
        assert hashlib.sha256(data).hexdigest() == expected
        assert struct.unpack("<I", data[-4:])[0] == google_crc32c.value(data[:-4])
        rows.append(np.frombuffer(data[:-4], "<f2").reshape(height, d))
    np.testing.assert_array_equal(np.concatenate(rows)[:n], ROWS)
    slide = json.loads((folder.parents[1] / "zarr.json").read_bytes())
    for path, expected in slide["attributes"]["histoboost"]["files"].items():
        assert hashlib.sha256((folder.parents[1] / path).read_bytes()).hexdigest() == expected


def test_this_version_writes_the_documents_of_its_archive(archived, tmp_path, files):
    """Changed documents require a new format version and archive."""
    write(tmp_path / "new")
    old, new = files(archived.location), files(tmp_path / "new")
    embedding = [path for path in old if "net@64" in path]
    assert embedding
    for path in ["zarr.json", "slides/zarr.json", *embedding]:
        assert old[path] == new[path], path
