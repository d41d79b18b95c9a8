"""Principal components of `pca:K(...)` terms."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoboost.errors import HistoboostWarning
from histoboost.regress.expression import Term
from histoboost.regress.layout import Block, Columns
from histoboost.regress.reduce import fit_reduction, moments, principal_axes


def test_fewer_training_spots_than_components_are_warned_about():
    inner = Term("net@32")
    block = Block(Term("", components=15, inner=(inner,)), (Columns(inner, 0, 20),))
    rows = np.random.default_rng(0).normal(size=(8, 20)).astype(np.float32)
    with pytest.warns(HistoboostWarning, match="pca:15: 8 training spots have only 7 components"):
        assert fit_reduction([block], [rows], seed=0).parts[0].width == 7


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("count", [2, 30])  # 30 is exact, 2 is a randomised search
def test_components_are_those_of_scikit_learn(count, standardize):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(90, 4)) @ rng.normal(size=(4, 400))) * np.geomspace(0.1, 10, 400)
    rows = (rows + 0.01 * rng.normal(size=(90, 400)) + 3).astype(np.float32)
    rows[:, 7] = 0.25  # constant
    mean, axes = principal_axes([rows[:40], rows[40:]], count, 0, standardize)
    pipe = make_pipeline(StandardScaler(with_std=standardize), PCA(count))
    expected = pipe.fit_transform(rows.astype(np.float64))
    found = (rows - mean) @ axes
    ratio = np.abs((found * expected).sum(axis=0)) / (expected**2).sum(axis=0)
    np.testing.assert_allclose(ratio, 1, atol=1e-3)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-4)
    assert moments([rows])[1][7] == 1
