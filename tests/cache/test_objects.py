"""The store in an object store: the same promises, kept without rename and without locks."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from histoboost.cache import objects
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError

pytest.importorskip("obstore")
moto_server = pytest.importorskip("moto.server")

N, D = 1500, 3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a server on loopback."""
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


def keys(store: EmbeddingStore) -> list[str]:
    return list(store._backend.walk(""))


def dump(store: EmbeddingStore) -> dict[str, bytes]:
    return {key: store._backend.read(key) for key in keys(store)}


def test_what_was_written_is_read(store, table, rows, recipe, put):
    store.write_spots(table("S_0", 10, abundance=None, cell_types=()))
    assert put(store, "S_1", "net@64", rows(N, D)) == 2
    again = EmbeddingStore(store.location, mode="r")
    assert again.slides() == ["S_1", "S_0"]
    assert again.embeddings("S_1") == {"net@64": recipe()}
    np.testing.assert_array_equal(again.read("S_1", "net@64"), rows(N, D))
    assert again.spots("S_1").differences(table("S_1", N)) == []
    assert not again.verify().damaged
    assert not [key for key in keys(store) if key.startswith(".staging")]


def test_zarr_and_anndata_read_it_through_their_own_object_store(store, rows, put):
    import anndata
    import obstore
    import zarr
    from zarr.storage import ObjectStore

    put(store, "S_1", "net@64", rows(N, D))
    upstream = obstore.store.from_url(f"{store.location}/slides/S_1")
    group = zarr.open_group(ObjectStore(upstream, read_only=True), mode="r")
    np.testing.assert_array_equal(group["obsm/net@64"][:], rows(N, D))
    adata = anndata.io.read_elem(group)
    np.testing.assert_array_equal(adata.obsm["net@64"], rows(N, D))


def test_the_objects_are_those_of_a_local_store(store, tmp_path, table, rows, put, files):
    local = EmbeddingStore(tmp_path / "local")
    local.write_spots(table("S_1", N))
    for each in (store, local):
        put(each, "S_1", "net@64", rows(N, D))
    assert dump(store) == files(local.location)


def test_a_second_run_finds_what_the_first_has_staged(store, rows, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    writer.write(writer.missing[0], rows(N, D)[:1024])
    again = EmbeddingStore(store.location).writer("S_1", "net@64", recipe(), N, D)
    assert again.missing == [slice(1024, N)]
    assert store.embeddings("S_1") == {}


def test_the_same_again_does_nothing_and_another_recipe_is_refused(store, rows, recipe, put):
    put(store, "S_1", "net@64", rows(N, D))
    before = dump(store)
    assert put(store, "S_1", "net@64", rows(N, D)) == 0
    assert dump(store) == before
    with pytest.raises(HistoboostError, match="patch_px: 64, not 32"):
        store.writer("S_1", "net@64", recipe(patch_px=32), N, D)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is executed."""


def die_at(monkeypatch, n: int) -> None:
    """Let the n-th request that changes something, and all after it, fail."""
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
def test_a_writer_killed_before_any_request_resumes(store, rows, put, n):
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, n)
        with pytest.raises(Killed):
            put(store, "S_1", "net@64", rows(N, D))
    visible = store.embeddings("S_1")
    assert not store.verify().damaged
    if visible:
        np.testing.assert_array_equal(store.read("S_1", "net@64"), rows(N, D))
    again = EmbeddingStore(store.location)
    assert put(again, "S_1", "net@64", rows(N, D)) <= max(0, 3 - n) + 1
    np.testing.assert_array_equal(again.read("S_1", "net@64"), rows(N, D))
    assert list(again.embeddings("S_1")) == ["net@64"]
    again.gc(older_than_s=-1)
    assert not [key for key in keys(again) if key.startswith(".staging")]


@pytest.mark.parametrize("n", [5, 45])
def test_a_slide_killed_in_the_making_is_invisible_until_it_is_whole(location, table, n):
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


def test_who_meets_the_claim_of_a_dead_process_carries_it_out(store, rows, put, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects.ObjectBackend, "_copy", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            put(store, "S_1", "net@64", rows(N, D))
    assert [key for key in keys(store) if "claim-" in key]
    assert put(store, "S_1", "net@64", rows(N, D)) == 0  # all chunks were staged
    np.testing.assert_array_equal(store.read("S_1", "net@64"), rows(N, D))
    assert not [key for key in keys(store) if "claim-" in key]


def test_a_claim_whose_content_is_gone_does_not_block(store, rows, put):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects.ObjectBackend, "_copy", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            put(store, "S_1", "net@64", rows(N, D))
    for key in keys(store):
        if key.startswith(".staging/unit-"):
            store._backend.delete(key)
    assert put(store, "S_1", "net@64", rows(N, D)) == 2
    np.testing.assert_array_equal(store.read("S_1", "net@64"), rows(N, D))


def test_writers_side_by_side_publish_once_even_if_their_last_bits_differ(store, rows, recipe):
    first, second = rows(N, D), (rows(N, D).astype(np.float32) * 1.001).astype(np.float16)
    writers = [
        EmbeddingStore(store.location).writer("S_1", "net@64", recipe(), N, D) for _ in range(2)
    ]
    for writer, data in zip(writers, (first, second), strict=True):
        for part in [slice(0, 1024), slice(1024, N)]:
            writer.write(part, data[part])
    results: list[bool] = []
    threads = [threading.Thread(target=lambda w=w: results.append(w.publish())) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    assert not store.verify().damaged
    stored = store.read("S_1", "net@64")
    assert all(
        np.array_equal(stored[p], first[p]) or np.array_equal(stored[p], second[p])
        for p in (slice(0, 1024), slice(1024, N))
    )


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("flip", "c/0/0"),
        ("delete", "c/1/0"),
        ("flip", "zarr.json"),
        ("delete", "zarr.json"),
        ("add", "stray.tmp"),
    ],
)
def test_damage_is_found_and_repaired(store, rows, put, path, kind):
    put(store, "S_1", "net@64", rows(N, D))
    before = dump(store)
    key = f"slides/S_1/obsm/net@64/{path}"
    data = bytearray(store._backend.read(key) or b"left")
    data[len(data) // 2] ^= 1
    if kind == "delete":
        store._backend.delete(key)
    else:
        store._backend.put(key, bytes(data))
    (damage,) = store.verify().damaged
    assert (damage.slide, damage.embedding) == ("S_1", "net@64")
    computed = put(store, "S_1", "net@64", rows(N, D))
    assert computed == {"zarr.json": 2, "stray.tmp": 0}.get(path, 1)
    if kind == "add":  # reported and left
        store._backend.delete(key)
    assert dump(store) == before


def test_damaged_spot_tables_are_found_and_repaired(store, table):
    before = dump(store)
    store._backend.delete("slides/S_1/obsm/spatial/c/0/0")
    (damage,) = store.verify().damaged
    assert (damage.slide, damage.embedding) == ("S_1", None)
    store.write_spots(table("S_1", N))
    assert dump(store) == before


def test_removal_and_collection(store, rows, recipe, put):
    put(store, "S_1", "net@64", rows(N, D))
    writer = store.writer("S_1", "half@64", recipe(), N, D)
    writer.write(writer.missing[0], rows(N, D)[:1024])
    assert store.gc().removed == 0  # young: somebody may be writing it
    assert store.gc(older_than_s=-1).removed == 1
    assert store.remove("net@64") == ["S_1"]
    assert store.embeddings("S_1") == {}
    assert not store.verify().damaged
    assert not [key for key in keys(store) if "net@64" in key or ".staging" in key]


def test_errors_are_one_line(bucket, location):
    with pytest.raises(HistoboostError, match="no such store"):
        EmbeddingStore(location, mode="r")
    with pytest.raises(HistoboostError, match="check bucket") as caught:
        EmbeddingStore("s3://no-such-bucket/store")
    assert "\n" not in str(caught.value)
    with pytest.raises(HistoboostError, match="unknown scheme 'ftp'; use s3, gs, az"):
        EmbeddingStore("ftp://somewhere/store")


def test_a_staging_folder_that_another_process_has_just_removed_is_nobodys(store):
    assert store._backend.abandoned("unit-gone", older_than_s=0) is None


@pytest.mark.parametrize("path", ["obsm/net@64/notes.txt", "obsm/net@64/c/notes.txt", "notes.txt"])
@pytest.mark.parametrize("before", ["nothing", "a damaged chunk", "a damaged document"])
def test_an_object_that_comes_while_an_embedding_is_published_is_left(
    store, rows, recipe, put, monkeypatch, path, before
):
    key = f"slides/S_1/{path}"
    if before != "nothing":
        put(store, "S_1", "net@64", rows(N, D))
        part = {"a damaged chunk": "c/0/0", "a damaged document": "zarr.json"}[before]
        store._backend.put(f"slides/S_1/obsm/net@64/{part}", b"left")
    copy = objects.ObjectBackend._copy

    def come_between(self, *names):
        self.put(key, b"mine")
        return copy(self, *names)

    writer = store.writer("S_1", "net@64", recipe(), N, D)
    for part in writer.missing:
        writer.write(part, rows(N, D)[part])
    monkeypatch.setattr(objects.ObjectBackend, "_copy", come_between)
    assert writer.publish()
    assert store._backend.read(key) == b"mine"
    np.testing.assert_array_equal(store.read("S_1", "net@64"), rows(N, D))


def test_an_embedding_that_comes_while_its_spot_table_is_published_twice_is_left(
    location, table, rows, put, monkeypatch
):
    first, second = EmbeddingStore(location), EmbeddingStore(location)
    walk = objects.ObjectBackend.walk

    def be_slow(self, key):
        monkeypatch.undo()
        second.write_spots(table("S_1", N))
        put(second, "S_1", "net@64", rows(N, D))
        return walk(self, key)

    monkeypatch.setattr(objects.ObjectBackend, "walk", be_slow)
    first.write_spots(table("S_1", N))
    np.testing.assert_array_equal(first.read("S_1", "net@64"), rows(N, D))
    assert not first.verify().damaged


def test_chunks_that_a_larger_embedding_left_are_deleted(store, rows, put):
    store._backend.put("slides/S_1/obsm/net@64/c/2/0", b"left")  # of a removal that was killed
    put(store, "S_1", "net@64", rows(N, D))
    assert not store.verify().damaged
