"""A store in object storage: the same guarantees without renames and locks."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from histoboost.cache import objects
from histoboost.cache.store import EmbeddingStore, EmbeddingWriter
from histoboost.errors import HistoboostError

pytest.importorskip("obstore")
moto_server = pytest.importorskip("moto.server")

N, D = 1500, 3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a local server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def location(bucket: str, request: pytest.FixtureRequest) -> str:
    return f"{bucket}/{request.node.name}/store"


@pytest.fixture
def store(location, table) -> EmbeddingStore:
    store = EmbeddingStore(location)
    store.write_spots(table("S_1", N))
    return store


def dump(store: EmbeddingStore) -> dict[str, bytes]:
    return {key: store._backend.read(key) for key in store._backend.walk("")}


def staged(store: EmbeddingStore) -> list[str]:
    return [key for key in store._backend.walk("") if key.startswith(".staging")]


@pytest.fixture(scope="module")
def data(rows) -> np.ndarray:
    return rows(N, D)


@pytest.fixture
def embed(put, data):
    """Store `data` as net@64 of S_1; returns the number of chunks computed."""
    return lambda store: put(store, "S_1", "net@64", data)


def test_written_data_are_read_back(store, table, data, recipe, embed):
    store.write_spots(table("S_0", 10, abundance=None, cell_types=()))
    assert embed(store) == 2
    again = EmbeddingStore(store.location, mode="r")
    assert again.slides() == ["S_1", "S_0"]
    assert again.embeddings("S_1") == {"net@64": recipe()}
    np.testing.assert_array_equal(again.read("S_1", "net@64"), data)
    assert again.spots("S_1").differences(table("S_1", N)) == []
    assert not again.verify().damaged
    assert not staged(store)


def test_zarr_and_anndata_read_it_through_their_own_object_store(store, data, embed):
    import anndata
    import obstore
    import zarr
    from zarr.storage import ObjectStore

    embed(store)
    upstream = obstore.store.from_url(f"{store.location}/slides/S_1")
    group = zarr.open_group(ObjectStore(upstream, read_only=True), mode="r")
    np.testing.assert_array_equal(group["obsm/net@64"][:], data)
    adata = anndata.io.read_elem(group)
    np.testing.assert_array_equal(adata.obsm["net@64"], data)


def test_objects_equal_the_files_of_a_local_store(store, tmp_path, table, embed, files):
    local = EmbeddingStore(tmp_path / "local")
    local.write_spots(table("S_1", N))
    for each in (store, local):
        embed(each)
    assert dump(store) == files(local.location)


def test_a_second_run_reuses_staged_chunks(store, data, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    writer.write(writer.missing[0], data[:1024])
    again = EmbeddingStore(store.location).writer("S_1", "net@64", recipe(), N, D)
    assert again.missing == [slice(1024, N)]
    assert store.embeddings("S_1") == {}


def test_a_repeated_run_does_nothing_and_a_different_recipe_is_refused(store, recipe, embed):
    embed(store)
    before = dump(store)
    assert embed(store) == 0
    assert dump(store) == before
    with pytest.raises(HistoboostError, match="patch_px: 64, not 32"):
        store.writer("S_1", "net@64", recipe(patch_px=32), N, D)


class Killed(BaseException):
    """Simulates SIGKILL."""


def die_at(monkeypatch, n: int) -> None:
    """Fail the n-th request that changes something, and all later ones."""
    seen = 0
    lock = threading.Lock()

    def dying(original):
        def call(*args, **kwargs):
            nonlocal seen
            with lock:
                seen += 1
                if seen >= n:
                    raise Killed
            return original(*args, **kwargs)

        return call

    for name in ("put", "delete", "_put_if", "_copy"):
        original = getattr(objects.ObjectBackend, name)
        monkeypatch.setattr(objects.ObjectBackend, name, dying(original))


@pytest.mark.parametrize("n", [2, 4, 5, 6, 8, 9])
def test_a_writer_killed_before_any_request_resumes(store, data, embed, n):
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, n)
        with pytest.raises(Killed):
            embed(store)
    assert not store.verify().damaged
    if store.embeddings("S_1"):
        np.testing.assert_array_equal(store.read("S_1", "net@64"), data)
    again = EmbeddingStore(store.location)
    assert embed(again) <= max(0, 3 - n) + 1
    np.testing.assert_array_equal(again.read("S_1", "net@64"), data)
    again.gc(older_than_s=-1)
    assert not staged(again)


@pytest.mark.parametrize("n", [5, 45])
def test_a_slide_whose_writer_is_killed_stays_invisible_until_complete(location, table, n):
    store = EmbeddingStore(location)
    store.write_spots(table("S_0", 10))
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, n)
        with pytest.raises(Killed):
            store.write_spots(table("S_1", 10))
    assert store.slides() in (["S_0"], ["S_0", "S_1"])
    assert not store.verify().damaged
    store.write_spots(table("S_1", 10))
    assert store.slides() == ["S_0", "S_1"]
    assert not store.verify().damaged


@pytest.mark.parametrize("staged_is_gone", [False, True])
def test_the_next_writer_resolves_the_claim_of_a_dead_one(store, data, embed, staged_is_gone):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects.ObjectBackend, "_copy", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            embed(store)
    assert any("claim-" in key for key in staged(store))
    if staged_is_gone:
        for key in staged(store):
            if "claim-" not in key:
                store._backend.delete(key)
    assert embed(store) == (2 if staged_is_gone else 0)
    np.testing.assert_array_equal(store.read("S_1", "net@64"), data)
    assert not any("claim-" in key for key in staged(store))


def test_simultaneous_writers_publish_once_even_if_their_last_bits_differ(store, data, recipe):
    other = (data.astype(np.float32) * 1.001).astype(np.float16)
    parts = [slice(0, 1024), slice(1024, N)]
    writers = [
        EmbeddingStore(store.location).writer("S_1", "net@64", recipe(), N, D) for _ in range(2)
    ]
    for writer, own in zip(writers, (data, other), strict=True):
        for part in parts:
            writer.write(part, own[part])
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(EmbeddingWriter.publish, writers)) == [False, True]
    assert not store.verify().damaged
    stored = store.read("S_1", "net@64")
    for part in parts:
        assert any(np.array_equal(stored[part], own[part]) for own in (data, other))


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("flip", "obsm/net@64/c/0/0"),
        ("delete", "obsm/net@64/c/1/0"),
        ("flip", "obsm/net@64/zarr.json"),
        ("delete", "obsm/net@64/zarr.json"),
        ("add", "obsm/net@64/stray.tmp"),
        ("delete", "obsm/spatial/c/0/0"),
    ],
)
def test_damage_is_found_and_repaired(store, table, embed, path, kind):
    embed(store)
    before = dump(store)
    key = f"slides/S_1/{path}"
    data = bytearray(store._backend.read(key) or b"left")
    data[len(data) // 2] ^= 1
    if kind == "delete":
        store._backend.delete(key)
    else:
        store._backend.put(key, bytes(data))
    (damage,) = store.verify().damaged
    in_embedding = "net@64" in path
    assert (damage.slide, damage.embedding) == ("S_1", "net@64" if in_embedding else None)
    store.write_spots(table("S_1", N))
    assert embed(store) == (2 if "net@64/zarr.json" in path else "net@64/c" in path)
    if kind == "add":  # reported and kept
        store._backend.delete(key)
    assert dump(store) == before


def test_removal_and_collection(store, data, recipe, embed):
    embed(store)
    writer = store.writer("S_1", "half@64", recipe(), N, D)
    writer.write(writer.missing[0], data[:1024])
    assert store.gc().removed == 0  # too young
    assert store.gc(older_than_s=-1).removed == 1
    assert store.remove("net@64") == ["S_1"]
    assert store.embeddings("S_1") == {}
    assert not store.verify().damaged
    assert not [key for key in dump(store) if "net@64" in key or ".staging" in key]


def test_errors_are_one_line(bucket, location):
    with pytest.raises(HistoboostError, match="no such store"):
        EmbeddingStore(location, mode="r")
    with pytest.raises(HistoboostError, match="check bucket") as caught:
        EmbeddingStore("s3://no-such-bucket/store")
    assert "\n" not in str(caught.value)


def test_a_staging_folder_just_removed_by_another_process_is_not_claimed(store):
    assert store._backend.abandoned("unit-gone", older_than_s=0) is None


@pytest.mark.parametrize("path", ["obsm/net@64/notes.txt", "obsm/net@64/c/notes.txt", "notes.txt"])
@pytest.mark.parametrize("before", ["nothing", "a damaged chunk", "a damaged document"])
def test_an_object_that_comes_while_an_embedding_is_published_is_left(
    store, data, embed, monkeypatch, path, before
):
    key = f"slides/S_1/{path}"
    if before != "nothing":
        embed(store)
        part = {"a damaged chunk": "c/0/0", "a damaged document": "zarr.json"}[before]
        store._backend.put(f"slides/S_1/obsm/net@64/{part}", b"left")
    copy = objects.ObjectBackend._copy

    def put_and_copy(self, *names):
        self.put(key, b"mine")
        return copy(self, *names)

    monkeypatch.setattr(objects.ObjectBackend, "_copy", put_and_copy)
    embed(store)
    assert store._backend.read(key) == b"mine"
    np.testing.assert_array_equal(store.read("S_1", "net@64"), data)


def test_an_embedding_that_comes_while_its_spot_table_is_published_twice_is_left(
    location, table, data, embed, monkeypatch
):
    first, second = EmbeddingStore(location), EmbeddingStore(location)
    walk = objects.ObjectBackend.walk

    def be_slow(self, key):
        monkeypatch.undo()
        second.write_spots(table("S_1", N))
        embed(second)
        return walk(self, key)

    monkeypatch.setattr(objects.ObjectBackend, "walk", be_slow)
    first.write_spots(table("S_1", N))
    np.testing.assert_array_equal(first.read("S_1", "net@64"), data)
    assert not first.verify().damaged


def test_chunks_that_a_larger_embedding_left_are_deleted(store, embed):
    store._backend.put("slides/S_1/obsm/net@64/c/2/0", b"left")  # by a killed removal
    embed(store)
    assert not store.verify().damaged
