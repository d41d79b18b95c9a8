"""Cell types trained apart are those trained together, and workers hold on to nothing stale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning, pass_on
from histoboost.regress import distribute
from histoboost.regress.crossval import run_fold
from histoboost.regress.distribute import Data, data_of, divide, parts_of_each, score_unit
from histoboost.regress.features import assemble, describe
from histoboost.regress.fitting import begin_predictor, common_share, fit_predictor
from histoboost.regress.folds import Fold
from histoboost.regress.setup import Setup

from .conftest import TYPES, add_embedding

FEW = {"n_estimators": 20}
FEATURES = "pca:3(net@32)+net@64"
SLIDES = ["A", "B", "C"]
FOLD = Fold((2,), (0, 1))
ALL = tuple(range(len(TYPES)))


@pytest.mark.parametrize("model", ["lightgbm", "coords", "stack"])
@pytest.mark.parametrize("slides", [(0, 1), (0,)])
@pytest.mark.filterwarnings("ignore:stack. one training slide")
def test_types_trained_apart_equal_those_trained_together(
    store: EmbeddingStore, model: str, slides: tuple[int, ...]
) -> None:
    setup = Setup(FEATURES, model, options=FEW)
    matrix = assemble(store, SLIDES, setup.features, setup.standardize)
    whole = fit_predictor(matrix, slides, setup, 1)
    begun = begin_predictor(matrix, slides, setup, 1)
    apart = [begun.grow(types) for types in ((5,), (0, 1, 2), (3, 4))]  # in any order
    new = matrix.block(2)
    together = np.concatenate([each.unsmoothed(new) for each in apart[1:] + apart[:1]], axis=1)
    np.testing.assert_array_equal(together, whole.unsmoothed(new))
    texts = [text for each in apart[1:] + apart[:1] for text in each.fitted.texts]  # type: ignore[attr-defined]
    completed = apart[0].fitted.completed(texts)  # type: ignore[attr-defined]
    fields, found, arrays = completed.to_files()
    expected_fields, expected, expected_arrays = whole.fitted.to_files()
    assert (fields, found) == (expected_fields, expected)
    assert arrays.keys() == expected_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected_arrays[name])
    reduced = whole.reduction.apply(new)
    np.testing.assert_array_equal(completed.predict(reduced), whole.fitted.predict(reduced))


@pytest.mark.parametrize(
    ("model", "options", "divisible"),
    [
        ("lightgbm", {}, True),
        ("stack", {}, True),
        ("coords", {}, True),
        ("lightgbm", {"early_stopping": 5}, False),  # its rounds are the median of all types'
        ("blend", {}, False),  # its share is chosen for all types together
        ("ridge", {}, False),
        ("mean", {}, False),
    ],
)
def test_a_head_that_looks_at_all_types_at_once_is_not_divided(
    model: str, options: dict[str, Any], divisible: bool
) -> None:
    assert (common_share(Setup(FEATURES, model, options=options)) < 1) == divisible


@pytest.mark.parametrize("common", [0.0, 0.05, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("folds", [1, 6, 20])
def test_more_workers_never_take_longer_and_no_type_is_split(folds: int, common: float) -> None:
    def cost(workers: int) -> float:
        parts = parts_of_each(workers, folds, 35, common)
        assert 1 <= parts <= 35
        return -(-folds * parts // workers) * (common + (1 - common) / parts)

    costs = [cost(workers) for workers in range(1, 80)]
    assert all(later <= earlier + 1e-9 for earlier, later in zip(costs, costs[1:], strict=False))
    assert parts_of_each(1, folds, 35, common) == 1
    assert parts_of_each(folds, folds, 35, common) == 1
    assert (parts_of_each(2 * folds, folds, 35, common) == 2) == (common < 1)


class Workers:
    """As much of a client as tells how many workers there are."""

    def __init__(self, count: int) -> None:
        self.count = count

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": dict.fromkeys(range(self.count))}


@pytest.mark.parametrize("model", ["stack", "lightgbm", "blend"])
@pytest.mark.parametrize("folds", [1, 6, 7])
@pytest.mark.parametrize("workers", [1, 2, 4, 6, 8, 64])
def test_every_type_of_every_fold_is_trained_once_and_only_folds_left_over_are_divided(
    store: EmbeddingStore, model: str, folds: int, workers: int
) -> None:
    layout = describe(store, SLIDES, "net@32")
    divided = divide(Workers(workers), layout, Setup("net@32", model), folds)  # type: ignore[arg-type]
    assert len(divided) == folds
    for parts in divided:
        assert tuple(i for types in parts for i in types) == ALL
    whole = folds - folds % workers
    assert all(len(parts) == 1 for parts in divided[:whole])
    if model == "blend":
        assert all(len(parts) == 1 for parts in divided)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process becomes a worker that holds nothing yet."""
    monkeypatch.setattr(distribute, "_held", distribute._Held())


def data_and_setup(store: EmbeddingStore, **more: Any) -> tuple[Data, Setup]:
    setup = Setup("net@32", "lightgbm", options=FEW, **more)
    return data_of(store, describe(store, SLIDES, setup.features), setup), setup


def test_a_worker_reads_and_begins_once_and_lets_the_old_go(
    held: None, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("assemble", "begin_predictor"):
        real = getattr(distribute, name)

        def noted(*arguments: Any, name: str = name, real: Any = real) -> Any:
            if name == "assemble":
                assert distribute._held._matrix is distribute._held._begun is None
            assert distribute._held._begun is None
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(distribute, name, noted)
    data, setup = data_and_setup(store)
    for fold in (FOLD, Fold((0,), (1, 2))):
        for types in ((0, 1), (2, 3, 4, 5)):
            score_unit(data, fold, setup, types)
    assert done == ["assemble", "begin_predictor", "begin_predictor"]
    score_unit(replace(data, standardize="none"), FOLD, setup, ALL)
    assert done[3:] == ["assemble", "begin_predictor"]


def test_a_store_that_has_changed_since_is_read_again(
    held: None, make_store: Callable[..., EmbeddingStore]
) -> None:
    store = make_store()
    data, setup = data_and_setup(store)
    before = score_unit(data, FOLD, setup, ALL).predictions
    rng = np.random.default_rng(0)
    store.remove("net@32")
    for slide in SLIDES:
        noise = rng.normal(size=(72, 12)).astype(np.float32)
        add_embedding(store, slide, "net@32", noise, patch_px=33)
    with pytest.raises(HistoboostError, match="holds other embeddings or labels there"):
        distribute._Held().matrix(data)  # a worker that sees another store than the caller
    data, setup = data_and_setup(store)
    after = score_unit(data, FOLD, setup, ALL).predictions
    assert not np.array_equal(before[0], after[0])
    expected = run_fold(assemble(store, SLIDES, "net@32"), FOLD, setup, 1)
    np.testing.assert_array_equal(after[0], expected.predictions["C"])


def test_what_a_worker_warns_of_comes_back_with_its_part(held: None, store: EmbeddingStore) -> None:
    setup = Setup("net@32", "stack", options=FEW)
    data = data_of(store, describe(store, SLIDES, setup.features), setup)
    part = score_unit(data, Fold((2,), (0,)), setup, ALL)
    assert len(part.warnings) == 1
    assert "kernel ridge is used alone" in part.warnings[0]
    with pytest.warns(HistoboostWarning, match="kernel ridge is used alone"):
        pass_on(part.warnings)


def test_a_worker_whose_threads_may_not_start_processes_says_so(
    held: None, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribute, "worker_threads", lambda: 2)
    monkeypatch.setattr(distribute, "can_fork", lambda: False)
    data, setup = data_and_setup(store)
    [said] = score_unit(data, FOLD, setup, ALL).warnings
    assert "train on one core each" in said
    assert "DASK_DISTRIBUTED__WORKER__DAEMON=False" in said
