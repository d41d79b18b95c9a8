"""Blocks of features count alike, however wide."""

from __future__ import annotations

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.setup import Setup

from .conftest import add_embedding, fill_store, matrix_of


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """A store whose embedding `twice` is net@32 and net@32 again."""
    store = EmbeddingStore(fill_store(tmp_path_factory.mktemp("twice") / "s.zarr"))
    for slide in "ABCD":
        values = store.read(slide, "net@32").astype(np.float32)
        add_embedding(store, slide, "twice", np.tile(values, 2))
    return store


@pytest.mark.parametrize("model", ["ridge", "kernel"])
@pytest.mark.parametrize("once", ["net@64+net@32", "net@64+pca:3(net@32)", "net@32:ring1+net@64"])
def test_an_embedding_that_is_twice_as_wide_counts_as_much(
    twice: EmbeddingStore, model: str, once: str
) -> None:
    found = []
    for features in (once, once.replace("net@32", "twice")):
        matrix = matrix_of(twice, ["A", "B", "C"], features)
        predictor = fit_predictor(matrix, [0, 1], Setup(features, model, group_by="slide"))
        found.append(predictor.predict(matrix.block(2), matrix.layout.spots[2].xy))
    np.testing.assert_allclose(*found, atol=2e-3)
    assert np.ptp(found[0], axis=0).min() > 0.01
