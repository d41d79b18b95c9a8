"""Held-out predictions as a table, and warnings where a constant profile scores higher."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.baselines import SCORES, slide_scores
from histoboost.regress.crossval import cross_validate, run_folds
from histoboost.regress.fold_cache import FoldCache
from histoboost.regress.held_out import check_columns, held_out_frame
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides
from histoboost.regress.targets import fit_target
from histoboost.regress.units import UNITS

from .conftest import TYPES, add_embedding


@pytest.mark.parametrize("units", UNITS)
def test_rows_are_what_a_model_of_the_other_slides_predicts(store, units):
    table = held_out_frame(cross_validate(store, "net@32", "ridge"), units)
    assert list(table) == ["fold", "slide", "spot", "x", "y", *TYPES]
    assert list(table.groupby("slide").fold.unique().map(list)) == [["p1"], ["p1"], ["p2"]]
    model = CompositionRegressor("net@32", "ridge").fit(store, ["A", "B"])
    expected = model.predict(store, "C", units=units).to_frame().drop(columns="novelty")
    found = table[table.fold == "p2"].drop(columns="fold").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


def test_several_seeds_give_the_predictions_of_the_first(store):
    few = {"options": {"n_estimators": 5, "num_leaves": 3}, "jobs": 1}
    both, first = (cross_validate(store, "net@32", seeds=seeds, **few) for seeds in (2, 1))
    pd.testing.assert_frame_equal(held_out_frame(both), held_out_frame(first))


def test_folds_kept_from_an_earlier_run_have_no_predictions_and_say_so(store, tmp_path):
    setup, spots = Setup("net@32", "ridge"), labelled_slides(store)
    kept = FoldCache(tmp_path)
    run_folds(store, setup, spots, cache=kept)
    again = run_folds(store, setup, spots, cache=kept)
    with pytest.raises(HistoboostError, match=r"fold p1 \(A, B\): was loaded from an earlier run"):
        held_out_frame(again)


@pytest.mark.parametrize("name", ["fold", "slide", "x"])
def test_a_cell_type_with_the_name_of_a_column_is_refused(name):
    with pytest.raises(HistoboostError, match=f"'{name}'"):
        check_columns(["T cells", name], "store.zarr")


def test_what_is_predicted_worse_than_by_a_constant_profile_is_named(make_store):
    store = make_store()
    spots = store.spots("C")
    swapped = np.ascontiguousarray(spots.abundance[:, ::-1])  # all it learns is wrong on C
    other = replace(spots, slide="E", abundance=swapped, group="p9")
    with warnings.catch_warnings(action="error", category=HistoboostWarning):
        cross_validate(store, "net@*", "ridge")
    store.write_spots(other)
    for name in ("net@32", "net@64"):
        values = -store.read("C", name).astype(np.float32)
        add_embedding(store, "E", name, values, patch_px=int(name[-2:]))
    with pytest.warns(HistoboostWarning, match="does not generalise") as heard:
        scores = cross_validate(store, "net@*", "ridge")
    own = next(fold for fold in scores.folds if fold.name == "p9 (E)")
    best = max(own.baselines[name]["spot_spearman"] for name in ("mean", "mean-rank"))
    [said] = [str(one.message) for one in heard if "p9" in str(one.message)]
    assert said.startswith(
        f"p9 (E): ridge scores {own.spot_spearman:.3f} per spot, a constant profile {best:.3f};"
    )


def test_labelled_slides_are_scored_as_the_fold_that_holds_them_out(store):
    model = CompositionRegressor("net@32", "ridge").fit(store, ["A", "B"])
    fold = cross_validate(store, "net@32", "ridge", held_out="C").folds[0]
    for units in UNITS:  # scores do not depend on the units
        [found] = model.predict(store, "C", units=units)
        assert found.scores == pytest.approx({name: getattr(fold, name) for name in SCORES})
    assert model.predict(store, "D")[0].scores is None


def test_labels_are_compared_by_the_names_of_their_cell_types(store):
    table = store.spots("C")
    truth = table.abundance.astype(np.float64)
    turned = replace(table, abundance=table.abundance[:, ::-1], cell_types=TYPES[::-1])
    target = fit_target("raw", truth)
    assert slide_scores(truth, turned, TYPES, target) == pytest.approx(
        {**dict.fromkeys(SCORES, 1.0), "share_rmse": 0.0, "share_jsd": 0.0}, abs=1e-6
    )
    others = replace(table, cell_types=("other", *TYPES[1:]))
    assert slide_scores(truth, others, TYPES, target) is None
