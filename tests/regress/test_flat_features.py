"""Features that hardly vary give the mean profile and a warning, never a linear-algebra error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.regress.crossval import cross_validate
from histoboost.spots import SpotTable

from .conftest import add_embedding


def store_of(path: Path, *values: NDArray[np.float32]) -> EmbeddingStore:
    """One slide for each array, embedding ``n``, four cell types."""
    store, rng = EmbeddingStore(path / "s.zarr"), np.random.default_rng(1)
    for slide, embedding in zip("ABC", values, strict=True):
        n = len(embedding)
        xy = np.stack([np.arange(n) * 10.0, np.zeros(n)], axis=1)
        abundance = rng.lognormal(size=(n, 4)).astype(np.float32)
        store.write_spots(SpotTable(slide, xy, tuple(map(str, range(n))), abundance, tuple("abcd")))
        add_embedding(store, slide, "n", embedding)
    return store


A, B, C = np.random.default_rng(0).normal(size=(3, 30, 8)).astype(np.float32)
ONES = np.ones_like(A)
ONE_OFF = ONES.copy()
ONE_OFF[0, 0] = 2
KINDS = {
    "one slide of one spot": (A[:1], B, C),
    "slides of one spot": (A[:1], B[:1], C[:1]),
    "constant": (ONES, ONES, ONES),
    "constant but on one slide": (A, ONES, ONES),
    "constant but on one spot": (ONE_OFF, ONES, ONES),
    "far from 0": (A + 20000, B + 20000, C + 20000),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["stack", "ridge", "kernel", "lightgbm"])
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_every_model_scores_features_that_hardly_vary(tmp_path, kind, model):
    store = store_of(tmp_path, *KINDS[kind])
    options = {"n_estimators": 3} if model in ("stack", "lightgbm") else {}
    for spec in ("n", "pca:3(n)+n:ring1"):
        for standardize in ("slide", "none"):
            scores = cross_validate(
                store, spec, model, standardize=standardize, options=options, jobs=1
            )
            predicted = [each for fold in scores.folds for each in fold.predictions.values()]
            assert np.isfinite(np.concatenate(predicted)).all()


@pytest.mark.parametrize("model", ["ridge", "kernel"])
def test_constant_features_give_the_mean_profile_and_say_so(tmp_path, model):
    store = store_of(tmp_path, *KINDS["constant"])
    with pytest.warns(HistoboostWarning, match="do not vary across the training spots"):
        scores = cross_validate(store, "n", model, target="rank")
    mean = cross_validate(store, "n", "mean-rank")
    for fold, other in zip(scores.folds, mean.folds, strict=True):
        [found], [expected] = fold.predictions.values(), other.predictions.values()
        np.testing.assert_allclose(found, expected, atol=1e-6)
