"""The stack learns from predictions for slides that their model has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from histoboost.errors import HistoboostWarning
from histoboost.regress.heads.base import Training
from histoboost.regress.heads.kernel_ridge import PENALTIES, KernelRidge
from histoboost.regress.heads.stack import SHARE, FittedStack, StackHead


def make_training(slides: int = 3, seed: int = 0) -> Training:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(12, 4))
    blocks = [rng.normal(size=(40, 12)).astype(np.float32) for _ in range(slides)]
    targets = [np.tanh(b @ mixing) + rng.normal(scale=0.1, size=(40, 4)) for b in blocks]
    weights = [np.ones(40) for _ in range(slides)]
    return Training(
        blocks,
        targets,
        weights,
        list("ABCDE"[:slides]),
        np.ones(1, np.float32),
        [slice(0, 4)],
        jobs=1,
    )


def test_held_out_predictions_equal_a_kernel_ridge_of_the_other_slides() -> None:
    training = make_training()
    one = np.full(4, PENALTIES.index(0.3))
    ridge = replace(KernelRidge.fit(training, gaussian=True), common=one, own=one)
    features, fast = ridge.features, ridge.held_out()[1]

    unit = [b / np.linalg.norm(b, axis=1, keepdims=True) for b in training.blocks]
    rest, held = np.concatenate([unit[0], unit[2]]), unit[1]
    y = np.concatenate([training.targets[0], training.targets[2]])

    def gauss(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / features.width)

    k = gauss(rest, rest)
    centred = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
    dual = np.linalg.solve(
        centred + 0.3 * np.trace(centred) / len(k) * np.eye(len(k)), y - y.mean(0)
    )
    cross = gauss(held, rest)
    plain = (cross - k.mean(0) - cross.mean(1)[:, None] + k.mean()) @ dual + y.mean(0)
    np.testing.assert_allclose(fast, plain, atol=2e-3)
    assert ridge.total.weight == 120


def test_a_stack_is_the_mean_of_its_kernel_and_its_trees_and_survives_its_files() -> None:
    training = make_training()
    fitted = StackHead().fit(training)
    assert isinstance(fitted, FittedStack)
    new = make_training(1, seed=1).blocks[0]
    predicted = fitted.predict(new)
    kernel = fitted.kernel.predict(new)
    columns = np.concatenate([fitted.kernel.features.apply(new) @ fitted.axes, kernel], axis=1)
    [forest] = fitted.forests
    trees = forest.trees.predict_rows(np.asarray(columns, dtype=np.float32))
    np.testing.assert_allclose(predicted, SHARE * trees + (1 - SHARE) * kernel, atol=1e-5)
    loaded = StackHead().load(fitted.to_files())
    np.testing.assert_array_equal(loaded.predict(new), predicted)


def test_a_kernel_tells_informative_from_idle_features() -> None:
    training = make_training()
    for block in training.blocks:
        block[:, 6:] *= 1e-3
    shares = StackHead().fit(training).importance()
    assert shares is not None
    assert shares.sum() == pytest.approx(1)
    assert shares[:6].sum() > 0.9


def test_one_training_slide_leaves_the_kernel_alone_and_says_so() -> None:
    training = make_training(1)
    with pytest.warns(HistoboostWarning, match="kernel ridge is used alone"):
        fitted = StackHead().fit(training)
    assert isinstance(fitted, FittedStack)
    assert not fitted.forests
    loaded = StackHead().load(fitted.to_files())
    np.testing.assert_array_equal(
        loaded.predict(training.blocks[0]), fitted.predict(training.blocks[0])
    )
