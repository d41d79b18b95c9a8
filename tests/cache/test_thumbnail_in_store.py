"""A slide's small picture travels with its spots."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, SpotTable
from histoboost.errors import HistoboostError

PICTURE = np.random.default_rng(0).integers(0, 256, (25, 30, 3), dtype=np.uint8)


def table(**changes) -> SpotTable:
    y, x = np.mgrid[:5, :6] * 20.0
    fields = {
        "slide": "S_1",
        "xy": np.stack([x.ravel(), y.ravel()], axis=1),
        "spot_ids": tuple(map(str, range(30))),
        "image_shape": (100, 120),
        "thumbnail": PICTURE,
    }
    return SpotTable(**{**fields, **changes})


def test_the_picture_is_read_back(tmp_path):
    EmbeddingStore(tmp_path / "s").write_spots(table())
    stored = EmbeddingStore(tmp_path / "s", mode="r").spots("S_1")
    assert np.array_equal(stored.thumbnail, PICTURE)


def test_scanpy_and_squidpy_find_it_where_they_look(tmp_path):
    EmbeddingStore(tmp_path / "s").write_spots(table())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spatial = anndata.read_zarr(tmp_path / "s" / "slides" / "S_1").uns["spatial"]["S_1"]
    assert np.array_equal(spatial["images"]["lowres"], PICTURE)
    assert spatial["scalefactors"]["tissue_lowres_scalef"] == 30 / 120
    assert spatial["scalefactors"]["spot_diameter_fullres"] == pytest.approx(0.55 * 20)


def test_another_picture_of_the_same_spots_is_no_other_table(tmp_path):
    store = EmbeddingStore(tmp_path / "s")
    store.write_spots(table())
    store.write_spots(table(thumbnail=None))
    store.write_spots(table(thumbnail=255 - PICTURE))
    assert np.array_equal(store.spots("S_1").thumbnail, PICTURE)


def test_a_table_without_picture_has_none(tmp_path):
    store = EmbeddingStore(tmp_path / "s")
    store.write_spots(table(thumbnail=None))
    assert store.spots("S_1").thumbnail is None


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(HistoboostError, match="thumbnail is float64"):
        table(thumbnail=PICTURE / 255)
