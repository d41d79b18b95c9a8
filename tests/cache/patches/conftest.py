"""A slide for patches that other programs embedded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.spots import SpotTable


@pytest.fixture
def table() -> SpotTable:
    """Slide S_1 with 30 spots, 20 px apart."""
    x, y = np.meshgrid(np.arange(6) * 20.0, np.arange(5) * 20.0)
    xy = np.stack([x.ravel(), y.ravel()], 1) + 33
    return SpotTable(slide="S_1", xy=xy, spot_ids=tuple(f"BC{i}-1" for i in range(len(xy))))


@pytest.fixture
def store(tmp_path: Path, table: SpotTable) -> EmbeddingStore:
    """A store with that slide."""
    store = EmbeddingStore(tmp_path / "store.zarr")
    store.write_spots(table)
    return store
