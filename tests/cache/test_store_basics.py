"""The contract of the store, without failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError

N, D = 2100, 3


def test_written_data_are_read_back(store, table, rows, recipe, put):
    put(store, "S_1", "net@64")
    again = EmbeddingStore(store.location, mode="r")
    assert again.spots("S_1").differences(table()) == []
    assert again.embeddings("S_1") == {"net@64": recipe()}
    assert again.width("S_1", "net@64") == D
    np.testing.assert_array_equal(again.read("S_1", "net@64"), rows())


def test_repr_of_store_and_spots(store, table):
    assert repr(store) == f"EmbeddingStore({store.location!r}, slides=1)"
    assert repr(store.spots("S_1")) == "SpotTable('S_1', 2100 spots, 4 cell types)"
    assert repr(table("S_2", abundance=None)) == "SpotTable('S_2', 2100 spots, no labels)"


def test_slides_are_listed_in_the_order_of_writing(tmp_path, table):
    store = EmbeddingStore(tmp_path / "store")
    for slide in ["S_2", "S_10", "S_1", "a b"]:
        store.write_spots(table(slide, n=5))
    assert store.slides() == ["S_2", "S_10", "S_1", "a b"]


@pytest.mark.parametrize("first", [["A"], ["C"], ["D", "B"], ["B", "A", "D"], []])
def test_slides_keep_the_order_of_their_source_in_any_order_of_writing(tmp_path, table, first):
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(table("another source", n=5))
    source = ["A", "B", "C", "D"]
    orders = store.orders(source)
    for slide in first:  # an interrupted run
        store.write_spots(table(slide, n=5), orders[slide])
    again = store.orders(source)
    for slide in reversed(source):
        store.write_spots(table(slide, n=5), again[slide])
    assert store.slides() == ["another source", *source]


def test_a_slide_added_to_a_source_comes_last_without_moving_others(tmp_path, table):
    store = EmbeddingStore(tmp_path / "store")
    for slide in ("A", "B"):
        store.write_spots(table(slide, n=5))
    orders = store.orders(["new", "A", "B"])
    store.write_spots(table("new", n=5), orders["new"])
    assert store.slides() == ["A", "B", "new"]


def test_anndata_and_zarr_read_the_same_as_the_store(store, table, rows, put):
    import anndata
    import zarr

    put(store, "S_1", "net@64")
    adata = anndata.read_zarr(Path(store.location) / "slides" / "S_1")
    np.testing.assert_array_equal(adata.obsm["net@64"], rows())
    assert adata.obsm["net@64"].dtype == np.float16
    np.testing.assert_array_equal(adata.obsm["spatial"], table().xy)
    np.testing.assert_array_equal(adata.obsm["abundance"], table().abundance)
    assert tuple(adata.obs_names) == table().spot_ids
    assert list(adata.uns["cell_types"]) == list(table().cell_types)
    assert (adata.uns["split"], adata.uns["group"]) == ("Train", "patient 1")
    array = zarr.open_group(store.location, mode="r")["slides/S_1/obsm/net@64"]
    assert array.chunks == (1024, D)
    assert array.metadata.zarr_format == 3
    assert np.isnan(array.fill_value)
    assert [type(codec).__name__ for codec in array.metadata.codecs] == [
        "BytesCodec",
        "Crc32cCodec",
    ]


def test_writing_the_same_spots_again_changes_nothing(store, table, files):
    before = files(store.location)
    store.write_spots(table())
    assert files(store.location) == before


def test_an_embedding_is_visible_only_once_published(store, rows, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    for part in writer.missing:
        writer.write(part, rows()[part])
        assert store.embeddings("S_1") == {}
    assert not writer.published
    assert writer.publish()
    assert writer.published
    assert list(store.embeddings("S_1")) == ["net@64"]
    assert not (Path(store.location) / ".staging").exists()


def test_a_second_run_reuses_staged_chunks(store, half_written, recipe):
    again = store.writer("S_1", "net@64", recipe(), N, D)
    assert again.missing == [slice(1024, 2048), slice(2048, 2100)]


def test_a_published_embedding_has_nothing_missing(store, recipe, put):
    put(store, "S_1", "net@64")
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    assert writer.published
    assert writer.missing == []
    assert not writer.publish()


def test_a_different_recipe_under_the_same_name_is_refused(store, table, recipe, put):
    put(store, "S_1", "net@64")
    other = recipe(patch_px=128)
    with pytest.raises(HistoboostError, match="patch_px: 64, not 128"):
        store.writer("S_1", "net@64", other, N, D)
    store.write_spots(table("S_2"))
    with pytest.raises(HistoboostError, match="of slide S_1 .* .patch_px: 64, not 128"):
        store.writer("S_2", "net@64", other, N, D)


def test_values_that_float16_cannot_hold_are_refused(store, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    with pytest.raises(HistoboostError, match="not finite in float16"):
        writer.write(slice(0, 1024), np.full((1024, D), 1e6))


def test_a_missing_store_is_created_in_mode_a_only(tmp_path):
    for mode in ("r", "r+"):
        with pytest.raises(HistoboostError, match="no such store"):
            EmbeddingStore(tmp_path / "typo", mode=mode)
    assert not (tmp_path / "typo").exists()


def test_a_folder_with_other_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(HistoboostError, match="not a store"):
        EmbeddingStore(tmp_path)


def test_unknown_slides_and_embeddings_are_refused_with_the_available_ones(store):
    with pytest.raises(HistoboostError, match="no slide 'S_9'; available: S_1"):
        store.spots("S_9")
    with pytest.raises(HistoboostError, match="no embedding 'x' of slide S_1; available: none"):
        store.read("S_1", "x")
