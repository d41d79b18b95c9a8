"""The stack learns from held-out predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from histoboost.errors import HistoboostWarning
from histoboost.regress.heads.base import Array, Training
from histoboost.regress.heads.feature_map import FeatureMap
from histoboost.regress.heads.gram import PENALTIES
from histoboost.regress.heads.kernel_ridge import PRIOR_GROUPS, KernelRidge
from histoboost.regress.heads.stack import COMPONENTS, DEFAULTS, SHARE, SHARE_OF_SHARES, StackHead
from histoboost.regress.joint import split, to_joint
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

Ridge = tuple[Training, KernelRidge]


def make_training(slides: int = 3, seed: int = 0) -> Training:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(12, 4))
    blocks = [rng.normal(size=(40, 12)).astype(np.float32) for _ in range(slides)]
    targets = [np.tanh(b @ mixing) + rng.normal(scale=0.1, size=(40, 4)) for b in blocks]
    weights, scale = [np.ones(40) for _ in range(slides)], np.ones(1, np.float32)
    return Training(blocks, targets, weights, "ABCDE"[:slides], scale, [slice(0, 4)], jobs=1)


def held_out(ridge: KernelRidge, training: Training) -> list[np.ndarray]:
    """Predictions of each training slide by the others."""
    everything = [np.arange(len(target)) for target in training.targets]
    return ridge.unseen(np.empty((len(ridge.weights), 0)), everything)[1]


def mapped(features: FeatureMap, *blocks: np.ndarray) -> np.ndarray:
    return np.concatenate([x for b in blocks for x in features.map_pieces(b, lambda _, x: x)])


def dense(
    ridge: KernelRidge, training: Sequence[Array], new: Array, penalty: float, y: Array
) -> tuple[Array, Array]:
    """Centred kernel of `new` and training spots, and the dual solution, without landmarks."""
    rest, held = (x / np.linalg.norm(x, axis=1)[:, None] for x in (np.concatenate(training), new))
    k, cross = (np.exp(-cdist(a, rest, "sqeuclidean") / ridge.features.width) for a in (rest, held))
    centred = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
    damped = centred + penalty * np.trace(centred) / len(k) * np.eye(len(k))
    return cross - k.mean(0) - cross.mean(1)[:, None] + k.mean(), np.linalg.solve(damped, y)


def test_held_out_predictions_equal_a_kernel_ridge_of_the_other_slides():
    training = make_training()
    one = np.full(4, PENALTIES.index(0.3))
    ridge = replace(KernelRidge.fit(training, gaussian=True), common=one, own=one)
    first, held, last = training.blocks
    y = np.concatenate([training.targets[0], training.targets[2]])
    across, dual = dense(ridge, [first, last], held, 0.3, y - y.mean(0))
    plain = across @ dual + y.mean(0)
    np.testing.assert_allclose(held_out(ridge, training)[1], plain, atol=2e-3)
    assert ridge.total.weight == 120


def test_a_stack_is_the_mean_of_its_kernel_and_its_trees_and_survives_its_files():
    training = make_training()
    fitted = StackHead().fit(training)
    new = make_training(1, seed=1).blocks[0]
    predicted = fitted.predict(new)
    kernel = fitted.kernel.predict(new)
    columns = np.concatenate([mapped(fitted.kernel.features, new) @ fitted.axes, kernel], axis=1)
    [forest] = fitted.forests
    trees = forest.trees.predict_rows(np.asarray(columns, dtype=np.float32))
    np.testing.assert_allclose(predicted, SHARE * trees + (1 - SHARE) * kernel, atol=1e-5)
    loaded = StackHead().load(fitted.to_files())
    np.testing.assert_array_equal(loaded.predict(new), predicted)


def test_kernel_importances_favour_informative_features():
    training = make_training()
    for block in training.blocks:
        block[:, 6:] *= 1e-3
    shares = StackHead().fit(training).importance()
    assert shares.sum() == pytest.approx(1)
    assert shares[:6].sum() > 0.9


def test_with_one_training_slide_the_kernel_is_used_alone_with_a_warning():
    training = make_training(1)
    with pytest.warns(HistoboostWarning, match="kernel ridge is used alone"):
        fitted = StackHead().fit(training)
    assert not fitted.forests
    new, loaded = training.blocks[0], StackHead().load(fitted.to_files())
    np.testing.assert_array_equal(loaded.predict(new), fitted.predict(new))


FEW = {"n_estimators": 12}


def joint_training(slides: int = 3, **more: Any) -> Training:
    """Training data with abundances of five types, learned jointly."""
    plain = make_training(slides)
    mixing = np.random.default_rng(5).normal(size=(4, 5))
    abundances = [np.exp(target @ mixing) for target in plain.targets]
    mean_total = float(np.concatenate(abundances).sum(axis=1).mean())
    targets = [to_joint(abundance, mean_total).columns() for abundance in abundances]
    parts = [slice(0, 5), slice(5, 10), slice(10, 15), slice(15, 16)]
    return replace(plain, targets=targets, parts=parts, options=FEW, **more)


@pytest.fixture(scope="module")
def joint_ridge():
    training = joint_training()
    return training, KernelRidge.fit(training, gaussian=True)


def test_penalties_are_those_of_least_error_for_the_part_and_for_each_target(joint_ridge):
    training, ridge = joint_ridge
    errors = np.empty((len(PENALTIES), 16))
    for at in range(len(PENALTIES)):
        one = np.full(16, at)
        alone = held_out(replace(ridge, common=one, own=one), training)
        pairs = zip(alone, training.targets, strict=True)
        errors[at] = np.sum([np.mean((p - t) ** 2, axis=0) for p, t in pairs], axis=0)
    np.testing.assert_array_equal(ridge.own, errors.argmin(axis=0))
    for part in training.parts:
        assert set(ridge.common[part]) == {int(errors[:, part].sum(axis=1).argmin())}
    assert len(set(ridge.own)) > 2


def test_a_joint_kernel_equals_the_mean_of_two_dense_solutions(joint_ridge):
    training, ridge = joint_ridge
    new, y = make_training(1, seed=1).blocks[0], np.concatenate(training.targets)
    mean = y.mean(axis=0)
    plain = np.empty((len(new), 16))
    for target in range(16):
        each = []
        for number in (ridge.common[target], ridge.own[target]):
            centred = y[:, target] - mean[target]
            across, dual = dense(ridge, training.blocks, new, PENALTIES[number], centred)
            each.append(across @ dual)
        shrink = 3 / (3 + PRIOR_GROUPS) if 10 <= target < 15 else 1.0
        plain[:, target] = shrink * np.mean(each, axis=0) + mean[target]
    fast = mapped(ridge.features, new) @ ridge.weights + ridge.intercept
    np.testing.assert_allclose(fast, plain, atol=2e-3)


@pytest.fixture(scope="module")
def joint_stack():
    return StackHead().fit(joint_training())


def test_one_forest_corrects_order_and_map_and_another_the_shares(joint_ridge, joint_stack):
    (training, ridge), fitted = joint_ridge, joint_stack
    new = make_training(1, seed=1).blocks[0]
    axes, true = ridge.principal_axes(COMPONENTS), split(np.concatenate(training.targets))
    unseen = split(np.concatenate(held_out(ridge, training)))
    scores = mapped(ridge.features, *training.blocks) @ axes
    kernel = split(fitted.kernel.predict(new))
    here = mapped(fitted.kernel.features, new) @ axes

    s_r, s_c = (part.std(axis=0) + 1e-9 for part in (true.order, true.map))
    options = {**DEFAULTS, "n_estimators": 6, "learning_rate": 0.1, "n_jobs": 1}
    first = MultiTargetLGBM(**options).fit(
        np.c_[scores, unseen.order, unseen.map], true.order / s_r + true.map / s_c
    )
    wanted = first.predict(np.c_[here, kernel.order, kernel.map])
    d = (wanted - (kernel.order / s_r + kernel.map / s_c)) / 2
    second = MultiTargetLGBM(**options)
    second.fit(np.c_[scores, unseen.share], true.share)
    trees = second.predict(np.c_[here, kernel.share])
    shares = kernel.share + SHARE_OF_SHARES * (trees - kernel.share)

    found = split(fitted.predict(new))
    np.testing.assert_allclose(found.order, kernel.order + s_r * d / 2, atol=1e-6)
    np.testing.assert_allclose(found.map, kernel.map + s_c * d / 2, atol=1e-6)
    np.testing.assert_allclose(found.share, shares, atol=1e-6)
    np.testing.assert_array_equal(found.total, kernel.total)


def test_a_joint_stack_survives_its_files_bit_for_bit(joint_stack):
    fitted, new = joint_stack, make_training(1, seed=1).blocks[0]
    assert len(fitted.forests) == 2
    files = fitted.to_files()
    fields = json.loads(json.dumps(files.fields))
    loaded = StackHead().load(files._replace(fields=fields))
    np.testing.assert_array_equal(loaded.predict(new), fitted.predict(new))
    again = loaded.to_files()
    assert again.texts == files.texts
    for name, array in files.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_a_joint_stack_saved_before_trees_had_shares_of_their_own_predicts_as_it_did(joint_stack):
    new, files = make_training(1, seed=1).blocks[0], joint_stack.to_files()
    del files.fields["tree_shares"]
    kernel = split(joint_stack.kernel.predict(new)).share
    now, then = (split(each.predict(new)).share for each in (joint_stack, StackHead().load(files)))
    np.testing.assert_allclose(
        (then - kernel) * SHARE_OF_SHARES, (now - kernel) * SHARE, atol=1e-12
    )


@pytest.mark.parametrize("name", ["spread", "axes", "weights"])
def test_parts_of_another_stack_are_refused(joint_stack, name):
    files = joint_stack.to_files()
    files.arrays[name] = files.arrays[name][:-1]
    with pytest.raises(ValueError, match="do not fit each other"):
        StackHead().load(files)


def test_totals_that_cannot_be_learned_stay_at_their_mean():
    training = joint_training()
    rng = np.random.default_rng(0)
    for target in training.targets:
        target[:, -1] = rng.normal(size=len(target))
    found = split(StackHead().fit(training).predict(make_training(1, seed=1).blocks[0]))
    np.testing.assert_array_equal(found.total, 0)
