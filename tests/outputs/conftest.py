"""Predictions of two small slides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from histoboost.regress.predictions import Prediction
from histoboost.spots import SpotTable

PITCH = 20.0
TYPES = ("T cell", "B cell", "C/D")


def hexagonal(rows: int, columns: int, pitch: float = PITCH) -> np.ndarray:
    """Spots of a hexagonal lattice, the first at (2, 2) pitches."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return pitch * (2 + np.stack([column + (row % 2) / 2, row * np.sqrt(0.75)], axis=1))


def predict(
    slide: str, xy: np.ndarray, types: Sequence[str] = TYPES, um: float | None = 0.5, seed: int = 0
) -> Prediction:
    """Random shares and novelty on a white slide with a margin around the spots."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"BC{i}" for i in range(len(xy)))
    width, height = np.ceil(xy.max(axis=0) + 40).astype(int)
    small = np.full((height // 2, width // 2, 3), 240, np.uint8)
    table = SpotTable(slide, xy, ids, um_per_px=um, image_shape=(height, width), thumbnail=small)
    shares = rng.dirichlet(np.ones(len(types)), len(xy))
    return Prediction(table, tuple(types), shares, "share", novelty=rng.random(len(xy)) * 2)


@pytest.fixture
def mapped() -> list[Prediction]:
    """Slides S_1 (hexagonal) and S_2 (square)."""
    square = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), axis=-1).reshape(-1, 2)
    return [predict("S_1", hexagonal(5, 6)), predict("S_2", 40 + PITCH * square, seed=1)]
