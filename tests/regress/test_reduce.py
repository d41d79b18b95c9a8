"""Components that `pca:K(...)` terms stand for."""

from __future__ import annotations

import numpy as np
import pytest

from histoboost.errors import HistoboostWarning
from histoboost.regress.expression import Term
from histoboost.regress.layout import Block, Columns
from histoboost.regress.reduce import fit_reduction, principal_axes


def test_fewer_training_spots_than_components_are_said() -> None:
    inner = Term("net@32")
    block = Block(Term("", components=15, inner=(inner,)), (Columns(inner, 0, 20),))
    rows = np.random.default_rng(0).normal(size=(8, 20)).astype(np.float32)
    with pytest.warns(HistoboostWarning, match="pca:15: 8 training spots have only 7 components"):
        assert fit_reduction([block], [rows], seed=0).parts[0].width == 7


def test_axes_span_what_a_singular_value_decomposition_finds() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(200, 5)) * [9, 7, 5, 3, 1]) @ rng.normal(size=(5, 30))
    mean, axes = principal_axes([rows[:120].astype("f4"), rows[120:].astype("f4")], 3, seed=0)
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-4)
    plain = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:3]
    np.testing.assert_allclose(np.abs(plain @ axes), np.eye(3), atol=1e-3)
