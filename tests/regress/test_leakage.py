"""A backbone that was tuned on a held-out slide makes its score too good."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.regress.leakage import warn_of_tuning
from histoboost.spots import SpotTable


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path / "store.zarr")
    tuned_on = [{"slide": "other name", "pixels": "pixels of S_1", "spots": "spots of S_2"}]
    for slide in ("S_1", "S_2", "S_3"):
        xy = np.random.default_rng(0).uniform(0, 9, (4, 2))
        store.write_spots(SpotTable(slide, xy, tuple("abcd")))
        for name, extra in (("tuned", {"tuned_on": tuned_on}), ("frozen", {})):
            fields = {"slide_pixels": f"pixels of {slide}", "spots": f"spots of {slide}", **extra}
            writer = store.writer(slide, name, Recipe(fields), 4, 2)
            writer.write(slice(0, 4), np.zeros((4, 2), np.float32))
            writer.publish()
    return store


@pytest.mark.parametrize("slide", ["S_1", "S_2"], ids=["same pixels", "same spots"])
def test_a_tuned_slide_is_recognised_whatever_its_name(store: EmbeddingStore, slide: str) -> None:
    with pytest.warns(HistoboostWarning, match=f"tuned: its backbone was tuned on {slide}"):
        warn_of_tuning(store, ["tuned", "frozen"], [slide])


def test_other_slides_and_frozen_backbones_raise_no_alarm(store: EmbeddingStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_tuning(store, ["tuned"], ["S_3"])
        warn_of_tuning(store, ["frozen"], ["S_1", "S_2", "S_3"])
