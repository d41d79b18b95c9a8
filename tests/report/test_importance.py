"""Importances by group of features."""

from __future__ import annotations

import numpy as np
import pytest

from histoboost.regress.expression import Term
from histoboost.regress.layout import Columns
from histoboost.report.importance import column_groups, permutation


def columns(*terms: Term, width: int = 2) -> list[Columns]:
    return [Columns(term, i * width, (i + 1) * width) for i, term in enumerate(terms)]


def test_columns_are_grouped_by_feature_embedding_size_and_neighbourhood():
    groupings = column_groups(
        columns(Term("a@64"), Term("a@64", 1), Term("b@128"), Term("b@128", 1), Term("coords"))
    )
    assert {name: list(groups) for name, groups in groupings.items()} == {
        "feature": ["a@64", "a@64:ring1", "b@128", "b@128:ring1", "coords"],
        "embedding": ["a", "b", "coords"],
        "patch size": ["64 px", "128 px", "coords"],
        "neighbourhood": ["the spot itself", "ring 1"],
    }
    for groups in groupings.values():
        assert np.array_equal(np.sort(np.concatenate(list(groups.values()))), np.arange(10))


def test_a_redundant_grouping_is_left_out():
    assert list(column_groups(columns(Term("a@64"), Term("b@128")))) == ["feature"]


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)).astype(np.float32)
    truth = features[:, :4] + 5
    return features, truth


def test_only_a_group_that_the_model_uses_loses_score_when_shuffled(problem):
    features, truth = problem
    groups = {"used": np.arange(4), "unused": np.arange(4, 6)}
    lost = permutation(lambda x: x[:, :4], features, truth, groups)
    assert lost["unused"] == 0
    assert lost["used"] > 0.8


def test_shuffling_does_not_change_the_features(problem):
    features, truth = problem
    before = features.copy()
    permutation(lambda x: x[:, :4], features, truth, {"a": np.arange(2), "b": np.arange(2, 6)})
    assert np.array_equal(features, before)


def test_a_constant_profile_loses_nothing(problem):
    features, truth = problem
    lost = permutation(
        lambda x: np.tile(np.arange(4.0), (len(x), 1)), features, truth, {"all": np.arange(6)}
    )
    assert lost == {"all": 0.0}
