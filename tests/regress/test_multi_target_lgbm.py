"""Models of many targets on one binned dataset equal separate ones."""

from __future__ import annotations

import re
import warnings
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.budget import one_blas_thread, processes
from histoboost.regress.lightgbm_text import checked_trees
from histoboost.regress.multi_target_lgbm import MultiTargetLGBM

Array = NDArray[Any]
Data = tuple[Array, Array, Array]


@parametrize_with_checks([MultiTargetLGBM(n_estimators=20, n_jobs=1)])
def test_it_is_an_sklearn_estimator(estimator, check):
    with warnings.catch_warnings(action="ignore"):
        check(estimator)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40)).astype(np.float32)
    y = np.column_stack([X[:, 0] * X[:, 1], np.abs(X[:, 2]), X[:, 3] + rng.normal(size=300)])
    return X, y, rng.uniform(0.5, 2, size=300)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_models_equal_separately_binned_ones_exactly(data, jobs, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    blocks = [X[:100], X[100:130], X[130:]]
    with warnings.catch_warnings(action="ignore", category=HistoboostWarning):
        model = MultiTargetLGBM(n_estimators=30, n_jobs=jobs).fit_blocks(blocks, y, weight)
        predicted = model.predict(X)
    for target, text in enumerate(model.texts_):
        seed = int(re.search(r"\[seed: (\d+)\]", text)[1])
        params = {**model.lightgbm_params(40), "seed": seed, "num_threads": 1}
        alone = lgb.train(params, lgb.Dataset(X, label=y[:, target], weight=weight), 30)
        np.testing.assert_array_equal(predicted[:, target], alone.predict(X))


def test_the_seed_decides_everything_and_the_texts_hold_it(data):
    X, y, _ = data
    models = [
        MultiTargetLGBM(n_estimators=10, n_jobs=1, random_state=seed).fit(X, y)
        for seed in (0, 0, 1)
    ]
    first, again, other = (model.predict(X) for model in models)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(MultiTargetLGBM.from_texts(models[0].texts_).predict(X), first)


def test_held_out_rows_stop_the_training_and_train_nothing(data):
    X, y, _ = data
    settings = {"learning_rate": 0.3, "n_jobs": 1}
    model = MultiTargetLGBM(n_estimators=200, **settings)
    model.fit_blocks([X[100:]], y[100:], stop_on=([X[:100]], y[:100]), patience=5)
    assert (model.rounds_ < 200).any()
    fixed = MultiTargetLGBM(n_estimators=int(model.rounds_[0]), **settings).fit(X[100:], y[100:])
    np.testing.assert_allclose(model.predict(X)[:, 0], fixed.predict(X)[:, 0])


def test_importances_sum_to_one_and_favour_informative_features(data):
    X, y, _ = data
    shares = MultiTargetLGBM(n_estimators=30, n_jobs=1).fit(X, y).feature_importances_
    assert shares.sum() == pytest.approx(1)
    assert shares[:4].sum() > shares[4:].sum()


@pytest.fixture(scope="module")
def text(data):
    """Three trees."""
    X, y, _ = data
    return MultiTargetLGBM(n_estimators=3, n_jobs=1).fit(X, y[:, 0]).texts_[0]


def test_a_text_that_is_cut_short_is_refused(text):
    for cut in (0, 10, 400, text.index("end of trees")):
        with pytest.raises(HistoboostError, match="cut short"):
            MultiTargetLGBM.from_texts([text[:cut]])


def test_processes_never_exceed_the_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    for tasks in (1, 3, 50):
        for jobs in (None, 1, 2, 4):
            assert 1 <= processes(tasks, jobs) <= min(4, jobs or 4)
    with pytest.warns(HistoboostWarning, match="may use 4 cores"):
        assert processes(50, 9) <= 4


def test_matrix_products_keep_to_one_thread_for_a_while():
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before = threads()
    with one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before


NUMBERS = ["0", "1", "-1", "7", "39", "40", "0_7", "\uff17", "+7", "7.0", "1e999", "-0"]
WORDS = ["", *NUMBERS, "2147483648"]


def edited(text: str, rng: np.random.Generator) -> str:
    """Change, remove, add or move one to three bytes or words in the trees of a text."""
    data, end = bytearray(text.encode()), text.index("end of trees")
    for _ in range(rng.integers(1, 4)):
        at, other = rng.integers(0, end, 2)
        noise = rng.choice(list(b"0123456789-=. e\nT\0\x80"), rng.choice([1, 3, 9])).tobytes()
        change = rng.integers(5)
        if change == 4:  # a word for a word
            words = [word.span() for word in re.finditer(rb"[^\s=]+", data[:end])]
            start, stop = words[rng.integers(len(words))]
            data[start:stop] = rng.choice(WORDS).encode()
        elif change == 0:
            data[at] = noise[0]
        elif change == 1:
            del data[at : at + rng.choice([1, 5, 40])]
        elif change == 2:
            data[at:at] = noise
        else:
            here, there = slice(at, at + 20), slice(other, other + 20)
            data[here], data[there] = data[there], data[here]
    return data.decode("utf-8", errors="replace")


def with_true_sizes(text: str) -> str:
    """Update the sizes of the trees in the header, as an attacker would."""
    head, end, rest = text.partition("\nend of trees\n")
    first, *trees = head.split("\nTree=")
    sizes = " ".join(str(len(f"Tree={tree}\n".encode())) for tree in trees)
    first = re.sub("tree_sizes=.*", f"tree_sizes={sizes}", first)
    return "\nTree=".join([first, *trees]) + end + rest


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.soak)])
def test_an_edited_text_is_refused_in_one_line_or_predicts(data, text, count):
    """Most of these crash or hang the process when LightGBM parses them."""
    rng, lines = np.random.default_rng(0), []
    for _ in range(count):
        try:
            model = MultiTargetLGBM.from_texts([with_true_sizes(edited(text, rng))])
        except HistoboostError as error:
            lines.append(str(error))
        else:
            assert model.predict_rows(data[0]).shape == (300, 1)
    assert len(lines) > count / 2
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("left_child=", "left_child=9", "not one|numbers"),
        ("split_feature=", "split_feature=9", "does not exist|numbers"),
        ("num_cat=0", "num_cat=1", "another kind"),
        ("is_linear=0", "is_linear=1", "another kind"),
        ("decision_type=2", "decision_type=3", "categorical"),
        ("num_leaves=", "num_leaves=9", "numbers were expected"),
        ("objective=regression", "objective=custom", "header"),
        ("max_feature_idx=39", "max_feature_idx=38", "does not list 39"),
        ("\nTree=1", "\nTree=2", "tree 1 is missing"),
        ("shrinkage=", "shrinkage=inf", "numbers were expected"),
        # Python parses these as 39 and 7; LightGBM does not.
        ("max_feature_idx=39", "max_feature_idx=3_9", "numbers were expected"),
        ("max_feature_idx=39", "max_feature_idx=\uff13\uff19", "numbers were expected"),
        ("num_leaves=7", "num_leaves=0_7", "numbers were expected"),
        ("num_leaves=7", "num_leaves=\uff17", "numbers were expected"),
        ("num_leaves=7", "num_leaves=00000000007", "numbers were expected"),
        ("leaf_weight=", "x=", "another kind"),
        ("num_cat=0", "num_cat=0\n" + "\n".join(f"a{i}=1" for i in range(22)), "another kind"),
        ("Column_1 ", " ", "does not list 40"),
        ("version=v4", "version=4", "version"),
        ("\n\n\nTree=1", "\nTree=1", "runs into the next"),
        ("\n\n\nend of", "\nend of", "runs into the next"),
    ],
)
def test_a_text_that_is_no_sound_set_of_trees_is_refused(text, old, new, message):
    assert old in text
    with pytest.raises(HistoboostError, match=message):
        MultiTargetLGBM.from_texts([with_true_sizes(text.replace(old, new, 1))])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("target", ["constant", "zero", "few", "plain"])
def test_every_text_that_lightgbm_writes_can_be_read_again(target, rounds, weighted):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8 if target == "few" else 60, 3))
    y = {"constant": np.ones(len(x)), "zero": np.zeros(len(x))}.get(target, x[:, 0])
    data = lgb.Dataset(x, y, weight=rng.uniform(1, 2, len(x)) if weighted else None)
    text = lgb.train({"verbose": -1, "num_threads": 1}, data, rounds).model_to_string()
    read = lgb.Booster(model_str=checked_trees(text, "model"))
    np.testing.assert_array_equal(read.predict(x), lgb.Booster(model_str=text).predict(x))
