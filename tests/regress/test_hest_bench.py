"""HEST-Bench's protocol, beside a plain scikit-learn script of it.

Checked against ``src/hest/bench/benchmark.py`` and ``trainer.py`` of mahmoodlab/HEST: embeddings
are standardised and reduced by PCA on the training spots, ``Ridge(alpha=100 / (components *
targets), fit_intercept=False, solver="lsqr")`` is fitted, and each target's Pearson correlation is
taken over all test spots.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.regress.model import CompositionRegressor
from histoboost.spots import SpotTable

from .conftest import add_embedding, hexagonal

GENES = ("g1", "g2", "g3", "g4")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Two slides of each of two patients, 150 spots with 300 features of differing spread."""
    path, rng = tmp_path_factory.mktemp("hest") / "store.zarr", np.random.default_rng(0)
    store, xy = EmbeddingStore(path), hexagonal(15, 10)
    mix, spread = rng.normal(size=(300, 300)), np.geomspace(1e-2, 10, 300)
    loadings = rng.normal(size=(300, len(GENES))) / 10
    for slide, patient in (("A", "p1"), ("B", "p1"), ("C", "p2"), ("D", "p2")):
        latent = rng.normal(size=(150, 300)) * np.geomspace(1, 0.05, 300)
        values = ((latent @ mix + rng.normal(size=300)) * spread).astype(np.float32)
        genes = np.log1p(np.exp(latent @ loadings + rng.normal(size=(150, 4))))
        ids = tuple(map(str, range(150)))
        labels = genes.astype(np.float32), GENES
        store.write_spots(SpotTable(slide, xy, ids, *labels, group=patient))
        add_embedding(store, slide, "net@64", values)
    return path


def plain(path: Path, training: str, test: str, components: int) -> np.ndarray:
    """Pearson correlation of each gene, by scikit-learn alone; no PCA where `components` is 0."""
    store = EmbeddingStore(path, mode="r")
    (train_x, train_y), (test_x, test_y) = (
        (
            np.concatenate([store.read(slide, "net@64") for slide in slides]).astype(np.float64),
            np.concatenate([store.spots(slide).abundance for slide in slides]).astype(np.float64),
        )
        for slides in (training, test)
    )
    steps = [PCA(components, svd_solver="full")] if components else []
    pipe = make_pipeline(StandardScaler(), *steps)
    train_x, test_x = pipe.fit_transform(train_x), pipe.transform(test_x)
    alpha = 100 / (train_x.shape[1] * train_y.shape[1])
    ridge = Ridge(alpha, solver="lsqr", fit_intercept=False, tol=1e-13, max_iter=10_000)
    predicted = ridge.fit(train_x, train_y).predict(test_x)
    return np.array([pearsonr(p, t)[0] for p, t in zip(predicted.T, test_y.T, strict=True)])


@pytest.mark.parametrize(("features", "components"), [("pca:256(net@64)", 256), ("net@64", 0)])
def test_one_command_scores_as_hest_bench_does(patients, tmp_path, features, components):
    alpha = 100 / ((components or 300) * len(GENES))
    command = f"evaluate {patients} --model ridge --features {features} --standardize training "
    command += f"--balance none --target raw --set alpha={alpha} --json {tmp_path / 'scores.json'}"
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "scores.json").read_text())["abundance_pearson"]
    folds = ("CD", "AB"), ("AB", "CD")
    expected = np.array([plain(patients, *slides, components) for slides in folds])
    np.testing.assert_allclose(found["folds"], expected.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(list(found["types"].values()), expected.mean(axis=0), atol=1e-6)
    assert found["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert f"as in HEST-Bench: {found['mean']:.3f}." in result.output


@pytest.mark.parametrize("features", ["pca:20(net@64)", "net@64+coords"])
def test_standardisation_over_training_spots_is_kept_in_the_bundle(patients, tmp_path, features):
    model = CompositionRegressor(features, "ridge", standardize="training", options={"alpha": 1.0})
    model.fit(patients, ["A", "B"]).save(tmp_path / "model")
    loaded = CompositionRegressor.load(tmp_path / "model")
    ours, theirs = (each.predict(patients, "C").to_frame() for each in (model, loaded))
    pd.testing.assert_frame_equal(ours, theirs)
