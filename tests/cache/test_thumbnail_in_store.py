"""The thumbnail of a slide is stored with its spots."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, SpotTable
from histoboost.errors import HistoboostError

IMAGE = np.random.default_rng(0).integers(0, 256, (25, 30, 3), dtype=np.uint8)


def table(thumbnail: np.ndarray | None = IMAGE) -> SpotTable:
    xy = np.stack(np.meshgrid(np.arange(6) * 20.0, np.arange(5) * 20.0), -1).reshape(-1, 2)
    ids = tuple(map(str, range(30)))
    return SpotTable("S_1", xy, ids, image_shape=(100, 120), thumbnail=thumbnail)


@pytest.mark.parametrize("thumbnail", [IMAGE, None])
def test_a_thumbnail_is_read_back_and_never_replaced(tmp_path, thumbnail):
    store = EmbeddingStore(tmp_path / "s")
    for each in (thumbnail, None, 255 - IMAGE):  # the same table, whatever its thumbnail
        store.write_spots(table(each))
    found = store.spots("S_1").thumbnail
    assert found is None if thumbnail is None else np.array_equal(found, IMAGE)


def test_scanpy_and_squidpy_find_the_thumbnail(tmp_path):
    EmbeddingStore(tmp_path / "s").write_spots(table())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spatial = anndata.read_zarr(tmp_path / "s" / "slides" / "S_1").uns["spatial"]["S_1"]
    assert np.array_equal(spatial["images"]["lowres"], IMAGE)
    assert spatial["scalefactors"]["tissue_lowres_scalef"] == 30 / 120
    assert spatial["scalefactors"]["spot_diameter_fullres"] == pytest.approx(0.55 * 20)


def test_a_thumbnail_of_another_dtype_is_refused():
    with pytest.raises(HistoboostError, match="thumbnail is float64"):
        table(IMAGE / 255)
