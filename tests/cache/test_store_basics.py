"""The store does what its contract says, on a quiet day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, Recipe
from histoboost.errors import HistoboostError

N, D = 2100, 3


def test_what_was_written_is_read(store, rows, recipe, put):
    put(store, "S_1", "net@64", rows(), recipe())
    again = EmbeddingStore(store.location, mode="r")
    assert again.embeddings("S_1") == {"net@64": recipe()}
    assert again.width("S_1", "net@64") == D
    np.testing.assert_array_equal(again.read("S_1", "net@64"), rows())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"abundance": None, "cell_types": ()},
        {"split": None},
        {"group": None},
        {"um_per_px": None},
        {"image_shape": None},
        {"n": 1},
        {"split": ""},
        {"group": None, "split": None, "um_per_px": None, "image_shape": None},
    ],
    ids=str,
)
def test_spot_tables_roundtrip(tmp_path, changes, table):
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(table(**changes))
    assert store.spots("S_1").differences(table(**changes)) == []


def test_store_and_spots_say_what_they_hold(store, table):
    assert repr(store) == f"EmbeddingStore({store.location!r}, slides=1)"
    assert repr(store.spots("S_1")) == "SpotTable('S_1', 2100 spots, 4 cell types)"
    assert repr(table("S_2", abundance=None)) == "SpotTable('S_2', 2100 spots, no labels)"


def test_slides_come_in_the_order_of_writing(tmp_path, table):
    store = EmbeddingStore(tmp_path / "store")
    for slide in ["S_2", "S_10", "S_1", "a b"]:
        store.write_spots(table(slide, n=5))
    assert store.slides() == ["S_2", "S_10", "S_1", "a b"]


@pytest.mark.parametrize("first", [["A"], ["C"], ["D", "B"], ["B", "A", "D"], []])
def test_slides_keep_the_order_of_their_source_whoever_writes_them_when(tmp_path, table, first):
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(table("another source", n=5))
    source = ["A", "B", "C", "D"]
    orders = store.orders(source)
    for slide in first:  # a run that was cut off
        store.write_spots(table(slide, n=5), orders[slide])
    again = store.orders(source)
    for slide in reversed(source):
        store.write_spots(table(slide, n=5), again[slide])
    assert store.slides() == ["another source", *source]


def test_a_slide_that_a_source_gained_comes_last_and_moves_no_other(tmp_path, table):
    store = EmbeddingStore(tmp_path / "store")
    for slide in ("A", "B"):
        store.write_spots(table(slide, n=5))
    orders = store.orders(["new", "A", "B"])
    store.write_spots(table("new", n=5), orders["new"])
    assert store.slides() == ["A", "B", "new"]


def test_anndata_and_zarr_read_what_our_reader_returns(store, table, rows, recipe, put):
    import anndata
    import zarr

    put(store, "S_1", "net@64", rows(), recipe())
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


def test_writing_the_same_spots_again_changes_nothing(store, table):
    store.write_spots(table())
    assert store.slides() == ["S_1"]


def test_other_spots_for_a_slide_are_refused_naming_the_difference(store, table):
    with pytest.raises(HistoboostError, match="group is .patient 1. in the store, .patient 2."):
        store.write_spots(table(group="patient 2"))


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


def test_a_second_run_finds_what_the_first_has_staged(store, rows, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    assert writer.missing == [slice(0, 1024), slice(1024, 2048), slice(2048, 2100)]
    writer.write(slice(1024, 2048), rows()[1024:2048])
    del writer
    again = store.writer("S_1", "net@64", recipe(), N, D)
    assert again.missing == [slice(0, 1024), slice(2048, 2100)]


def test_a_published_embedding_has_nothing_missing(store, rows, recipe, put):
    put(store, "S_1", "net@64", rows(), recipe())
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    assert writer.published
    assert writer.missing == []
    assert not writer.publish()


def test_another_recipe_under_the_same_name_is_refused_naming_the_field(
    store, table, rows, recipe, put
):
    put(store, "S_1", "net@64", rows(), recipe())
    other = Recipe({"backbone": "net", "patch_px": 128})
    with pytest.raises(HistoboostError, match="patch_px: 64, not 128"):
        store.writer("S_1", "net@64", other, N, D)
    store.write_spots(table("S_2"))
    with pytest.raises(HistoboostError, match="of slide S_1 .* .patch_px: 64, not 128"):
        store.writer("S_2", "net@64", other, N, D)


def test_values_that_float16_cannot_hold_are_refused(store, recipe):
    writer = store.writer("S_1", "net@64", recipe(), N, D)
    with pytest.raises(HistoboostError, match="not finite in float16"):
        writer.write(slice(0, 1024), np.full((1024, D), 1e6))


def test_a_store_that_is_absent_is_made_in_mode_a_only(tmp_path):
    for mode in ("r", "r+"):
        with pytest.raises(HistoboostError, match="no such store"):
            EmbeddingStore(tmp_path / "typo", mode=mode)
    assert not (tmp_path / "typo").exists()


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(HistoboostError, match="not a store"):
        EmbeddingStore(tmp_path)


def test_unknown_slides_and_embeddings_are_named_with_those_there_are(store):
    with pytest.raises(HistoboostError, match="no slide 'S_9'; available: S_1"):
        store.spots("S_9")
    with pytest.raises(HistoboostError, match="no embedding 'x' of slide S_1; available: none"):
        store.read("S_1", "x")
