"""Features read in pieces of rows give the same model as a matrix in memory."""

from dataclasses import replace

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.regress import fitting
from histoboost.regress.features import FeatureMatrix, StoredFeatures, assemble
from histoboost.regress.fitting import features_for, fit_predictor
from histoboost.regress.heads import blocks, coords, kernel_ridge, stack
from histoboost.regress.heads.blocks import draw, rows_of
from histoboost.regress.heads.kernel_ridge import KernelRidge
from histoboost.regress.joint import split
from histoboost.regress.setup import Setup
from histoboost.spots import SpotTable

from .conftest import add_embedding, layout_of
from .test_stack import joint_training

SPEC = "net@*+net@*:ring1+net@32:area10+coords"
KERNELS = ["stack", "kernel"]


@pytest.fixture
def few_rows(monkeypatch):
    """Use pieces of 16 rows and keep nothing in memory."""
    monkeypatch.setattr(blocks, "ROWS", 16)
    monkeypatch.setattr(fitting, "MOST_BYTES", 0)
    monkeypatch.setattr(kernel_ridge, "HELD_SPOTS", 0)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("standardize", ["slide", "none"])
def test_rows_read_from_the_store_are_those_of_the_matrix(store, standardize):
    layout = layout_of(store, ["A", "D"], SPEC)
    matrix, stored = (read(store, layout, standardize) for read in (assemble, StoredFeatures))
    for slide in (0, 1):
        whole, block = matrix.block(slide), stored.block(slide)
        np.testing.assert_equal(stored.moments_of(slide), matrix.moments_of(slide))
        assert block.shape == whole.shape
        np.testing.assert_array_equal(rows_of(block), whole)
        some = np.array([2, 3, 40])
        np.testing.assert_array_equal(rows_of(block, some), whole[some])
        pieces = [(rows, part.copy()) for rows, part in block.pieces()]
        assert {len(part) for _, part in pieces[:-1]} == {16}
        np.testing.assert_array_equal(np.concatenate([part for _, part in pieces]), whole)


@pytest.mark.parametrize("order", [slice(None), np.random.default_rng(0).permutation(60)])
def test_features_do_not_depend_on_how_many_rows_are_read_at_once(tmp_path, monkeypatch, order):
    store, rng = EmbeddingStore(tmp_path / "s.zarr"), np.random.default_rng(1)
    xy = (np.stack(np.divmod(np.arange(60), 8), axis=1) * 10.0)[order]
    store.write_spots(SpotTable("A", xy, tuple(map(str, range(60))), None, ()))
    add_embedding(store, "A", "net@32", rng.normal(size=(60, 3)))
    layout = layout_of(store, ["A"], "net@32+net@32:ring2+net@32:area5+net@32:area100+coords")
    at_once = assemble(store, layout)
    monkeypatch.setattr(blocks, "ROWS", 7)
    pieces = assemble(store, layout)
    np.testing.assert_allclose(pieces.values, at_once.values, atol=2e-6)
    np.testing.assert_allclose(pieces.moments, at_once.moments, rtol=2e-6)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("model", KERNELS)
def test_a_model_of_stored_features_is_that_of_the_matrix(store, monkeypatch, model):
    layout = layout_of(store, ["A", "B", "C", "D"], SPEC)
    setup = Setup(SPEC, model, options={"n_estimators": 4} if model == "stack" else {})
    found = []
    for held in (0, 1 << 40):
        monkeypatch.setattr(fitting, "MOST_BYTES", held)
        monkeypatch.setattr(kernel_ridge, "HELD_SPOTS", held)
        matrix = features_for(store, layout, setup)
        assert isinstance(matrix, FeatureMatrix if held else StoredFeatures)
        predictor = fit_predictor(matrix, [0, 1, 2], setup, jobs=1)
        found.append(predictor.predict_slide(matrix, 3))
    difference = np.abs(found[0] - found[1])
    if model == "kernel":
        assert difference.max() < 1e-5
    assert difference.mean() < 3e-3, "trees turn rounding into steps, but few and small ones"


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("model", KERNELS)
def test_threads_change_no_digit(store, monkeypatch, model):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    layout = layout_of(store, ["A", "B", "C"], SPEC)
    setup = Setup(SPEC, model, options={"n_estimators": 4} if model == "stack" else {})
    matrix, found = features_for(store, layout, setup), []
    for jobs in (1, 3):
        predictor = fit_predictor(matrix, [0, 1], setup, jobs)
        found.append(predictor.predict_slide(matrix, 2))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("model", ["ridge", "lightgbm"])
def test_models_that_need_all_features_at_once_get_the_matrix(store, monkeypatch, model):
    monkeypatch.setattr(fitting, "MOST_BYTES", 0)
    layout = layout_of(store, ["A", "B"], "net@32")
    assert isinstance(features_for(store, layout, Setup("net@32", model)), FeatureMatrix)
    reduced = layout_of(store, ["A", "B"], "pca:3(net@32)")
    assert isinstance(features_for(store, reduced, Setup("pca:3(net@32)")), FeatureMatrix)
    assert model not in fitting.ROWWISE


def test_what_is_not_held_is_solved_again_to_the_same(monkeypatch):
    training = joint_training()
    monkeypatch.setattr(kernel_ridge, "HELD_SPOTS", 1000)
    held = KernelRidge.fit(training, gaussian=True)
    monkeypatch.setattr(kernel_ridge, "HELD_SPOTS", 0)
    rows = [np.array([0, 5, 7]), np.arange(40), np.array([], int)]
    again = KernelRidge.fit(training, gaussian=True, rows=rows)
    assert [len(x) for x in held.mapped] == [40, 40, 40]
    assert [len(x) for x in again.mapped] == [3, 40, 0]
    np.testing.assert_array_equal(again.common, held.common)
    np.testing.assert_array_equal(again.own, held.own)
    axes = held.principal_axes(5)
    for one, other in zip(held.unseen(axes, rows), again.unseen(axes, rows), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_trees_of_more_spots_than_they_may_see_grow_on_some_of_every_slide(monkeypatch):
    training, new = joint_training(), joint_training(1).blocks[0]
    everything = split(stack.StackHead().fit(training).predict(new)).order
    monkeypatch.setattr(stack, "TREE_SPOTS", 90)
    some = split(stack.StackHead().fit(training).predict(new)).order
    assert 0 < np.abs(some - everything).max() < 0.3


@pytest.mark.parametrize("count", [1, 7, 20, 59, 60, 100])
def test_slides_give_as_many_spots_as_they_weigh_and_no_more_than_they_have(count):
    weights = [np.full(4, 5.0), np.full(16, 1.25), np.full(40, 0.5)]  # alike in sum
    rows = draw(weights, count, seed=3)
    sizes = [len(each) for each in rows]
    assert sum(sizes) == min(count, 60)
    for own, weight in zip(rows, weights, strict=True):
        assert (np.diff(own) > 0).all()
        assert ((own >= 0) & (own < len(weight))).all()
    unfilled = [size for size, weight in zip(sizes, weights, strict=True) if size < len(weight)]
    assert max(unfilled, default=0) - min(unfilled, default=0) <= 1
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(draw(weights, count, 3)))


def test_position_is_learned_from_some_spots_where_there_are_very_many(monkeypatch):
    rng = np.random.default_rng(0)
    xy = [rng.random((400, 2)).astype(np.float32) for _ in range(3)]
    training = replace(
        joint_training(),
        blocks=xy,
        targets=[np.stack([p[:, 0], np.sin(4 * p[:, 1])], axis=1).astype(np.float64) for p in xy],
        weights=[np.ones(400)] * 3,
        parts=[slice(0, 2)],
    )
    everything = coords.CoordsHead().fit(training)
    monkeypatch.setattr(coords, "SPOTS", 300)
    some = coords.CoordsHead().fit(training)
    assert len(some.kernel.features.landmarks) == 300
    np.testing.assert_allclose(some.predict(xy[0]), everything.predict(xy[0]), atol=0.05)
