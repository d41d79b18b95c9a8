"""Nothing of a held-out slide's labels reaches the model that predicts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.crossval import run_fold
from histoboost.regress.features import FeatureMatrix
from histoboost.regress.folds import Fold
from histoboost.regress.heads import MODELS
from histoboost.regress.setup import Setup

from .conftest import add_embedding, fill_store, matrix_of

FEW = {"n_estimators": 20, "num_leaves": 4}
FITTED = [
    ("lightgbm", FEW),
    ("lightgbm", {**FEW, "early_stopping": 3}),
    *((name, {}) for name in MODELS if name != "lightgbm"),
]


@pytest.fixture(scope="module")
def cheating(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """Slides A, B, C whose embedding `cheat` is noise on A and B and the labels on C."""
    store = EmbeddingStore(fill_store(tmp_path_factory.mktemp("leak") / "s.zarr"))
    rng = np.random.default_rng(0)
    for slide in "ABC":
        labels = store.spots(slide).abundance
        assert labels is not None
        noise = rng.normal(size=labels.shape).astype(np.float32)
        add_embedding(store, slide, "cheat", np.log(labels) if slide == "C" else noise)
    return store


@pytest.mark.parametrize(("model", "options"), FITTED)
@pytest.mark.parametrize("features", ["cheat+cheat:ring1", "pca:4(cheat)"])
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_the_labels_of_a_held_out_slide_as_its_features_help_nothing(
    cheating: EmbeddingStore, model: str, options: dict[str, Any], features: str
) -> None:
    matrix = matrix_of(cheating, ["A", "B", "C"], features)
    result = run_fold(matrix, Fold((2,), (0, 1)), Setup(features, model, options=options), 1)
    constants = (result.baselines[name]["spot_spearman"] for name in ("mean", "mean-rank"))
    assert result.spot_spearman < max(constants) + 0.15
    # A random map of the labels agrees with them by chance; a leak would come close to 1.
    assert abs(result.type_spearman) < 0.5


@pytest.mark.parametrize(("model", "options"), FITTED)
@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_a_held_out_slide_changes_nothing_of_the_model(
    store: EmbeddingStore, model: str, options: dict[str, Any]
) -> None:
    """Predictions of one spot stay the same whatever else the held-out slide holds."""
    setup = Setup("pca:3(net@32)+net@64", model, standardize="none", options=options)
    matrix = matrix_of(store, ["A", "B", "C"], setup.features, "none")
    honest = run_fold(matrix, Fold((2,), (0, 1)), setup, 1).predictions["C"]
    values = matrix.values.copy()
    values[matrix.starts[2] + 1 :] = 1e3
    values[: matrix.starts[2]] = matrix.values[: matrix.starts[2]]
    other = FeatureMatrix(values, matrix.layout)
    changed = run_fold(other, Fold((2,), (0, 1)), setup, 1).predictions["C"]
    np.testing.assert_allclose(changed[0], honest[0], rtol=1e-5, atol=1e-7)


def test_standardising_a_slide_looks_at_no_other(tmp_path: Path) -> None:
    store = EmbeddingStore(fill_store(tmp_path / "s.zarr", slides=3))
    both, alone = matrix_of(store, ["A", "B"], "net@32"), matrix_of(store, ["B"], "net@32")
    np.testing.assert_array_equal(both.block(1), alone.values)
