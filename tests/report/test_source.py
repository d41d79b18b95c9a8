"""Exploring a store instead of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.report.explore import explore
from histoboost.report.source import open_source
from histoboost.slides.readers import open_dataset
from histoboost.slides.thumbnail import thumbnail


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> EmbeddingStore:
    """The phantom slides, S_2 without an image and with embeddings of S_1 and S_3 only."""
    store = EmbeddingStore(tmp_path_factory.mktemp("store") / "store.zarr")
    for slide in open_dataset(phantom_h5).slides:
        image = thumbnail(slide.image) if slide.name != "S_2" else None
        store.write_spots(slide.spot_table(image))
    for name in ("S_1", "S_3"):
        n = len(store.spots(name))
        values = np.zeros((n, 8), np.float16)
        store.writer(name, "net@64", Recipe({"backbone": "net"}), n, 8).write_all(values)
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


def test_the_page_has_the_spots_of_each_embedding(store, tmp_path, page_data):
    [embedding] = page_data(explore(store.location, tmp_path / "e.html"))["embeddings"]
    assert (embedding["name"], embedding["width"]) == ("net@64", 8)
    counts = [len(store.spots(slide)) for slide in ("S_1", "S_3")]
    assert embedding["total"] == sum(counts)
    assert embedding["slide"] == [0] * counts[0] + [2] * counts[1]
    assert embedding["row"] == [*range(counts[0]), *range(counts[1])]


def test_a_slide_without_image_has_none(store):
    pictures = {spots.slide: spots.thumbnail for spots in open_source(store.location).slides}
    assert pictures["S_2"] is None
    assert pictures["S_1"].dtype == np.uint8


def test_a_store_is_refused_if_a_format_is_given(store):
    with pytest.raises(HistoboostError):
        open_source(store.location, "hdf5")


def test_a_url_is_a_store_whatever_its_scheme():
    with pytest.raises(HistoboostError, match="unknown scheme 'ftp'; use s3, gs, az"):
        open_source("ftp://bucket/store.zarr")


def test_a_folder_that_is_neither_store_nor_data_set_is_refused(tmp_path):
    with pytest.raises(HistoboostError, match="is an empty folder"):
        open_source(tmp_path)
