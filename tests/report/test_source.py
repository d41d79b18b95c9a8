"""Exploring a store instead of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore, SpotTable
from histoboost.errors import HistoboostError
from histoboost.report.source import open_source
from histoboost.slides.readers import open_dataset
from histoboost.slides.thumbnail import thumbnail


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path_factory.mktemp("store") / "store.zarr")
    for slide in open_dataset(phantom_h5).slides:
        store.write_spots(
            SpotTable(
                slide=slide.name,
                xy=slide.xy,
                spot_ids=slide.spot_ids,
                abundance=slide.abundance,
                cell_types=slide.cell_types,
                split=slide.split,
                image_shape=slide.image.shape,
                thumbnail=thumbnail(slide.image) if slide.name != "S_2" else None,
            )
        )
    rng = np.random.default_rng(0)
    for slide_name in ("S_1", "S_3"):
        n = len(store.spots(slide_name))
        writer = store.writer(slide_name, "net@64", Recipe({"backbone": "net"}), n, 8)
        for rows in writer.missing:
            writer.write(rows, rng.normal(size=(rows.stop - rows.start, 8)).astype(np.float16))
        writer.publish()
    return store


def test_a_store_shows_the_same_slides_as_the_dataset_it_came_from(store, phantom_h5):
    ours, theirs = open_source(store.location), open_source(phantom_h5)
    assert ours.store is not None
    assert theirs.store is None
    for a, b in zip(ours.slides, theirs.slides, strict=True):
        assert (a.slide, a.image_shape) == (b.slide, b.image_shape)
        assert (a.cell_types, a.split) == (b.cell_types, b.split)
        assert np.array_equal(a.xy, b.xy)
        assert (a.abundance is None) == (b.abundance is None)


def test_embeddings_are_listed_with_the_slides_that_have_them(store):
    source = open_source(store.location)
    assert source.embedding_names() == ["net@64"]
    assert [name for name, _ in source.embedding("net@64")] == ["S_1", "S_3"]


def test_a_slide_without_picture_is_shown_without(store):
    pictures = {spots.slide: spots.thumbnail for spots in open_source(store.location).slides}
    assert pictures["S_2"] is None
    assert pictures["S_1"].dtype == np.uint8


def test_a_store_under_the_format_of_a_dataset_is_refused(store):
    with pytest.raises(HistoboostError):
        open_source(store.location, "hdf5")


def test_an_address_is_taken_for_a_store_whatever_its_scheme():
    with pytest.raises(HistoboostError, match="unknown scheme 'ftp'; use s3, gs, az"):
        open_source("ftp://bucket/store.zarr")


def test_a_folder_that_is_no_store_and_no_dataset_is_one_clear_line(tmp_path):
    with pytest.raises(HistoboostError, match="in none of the formats"):
        open_source(tmp_path)
