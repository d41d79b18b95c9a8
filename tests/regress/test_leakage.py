"""A backbone that was tuned on a held-out slide makes its score too good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import warnings_kept
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


def test_a_tuned_slide_is_recognised_by_its_pixels_or_spots_and_others_are_not_named(
    store: EmbeddingStore,
) -> None:
    with warnings_kept() as heard:
        warn_of_tuning(store, ["tuned", "frozen"], ["S_1", "S_2", "S_3"])
    [line] = heard
    assert "tuned: its backbone was tuned on S_1, S_2, held out" in line
