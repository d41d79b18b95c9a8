"""Slides that cover only part of a section."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning, warnings_kept
from histoboost.regress.features import FeatureMatrix
from histoboost.regress.fitting import Predictor, fit_predictor
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.setup import Setup

from .conftest import add_embedding, matrix_of

FEATURES = "net@*+net@*:area10"
Rows = NDArray[np.int64]


def piece_of(store: EmbeddingStore, folder: Path, rows: Rows) -> EmbeddingStore:
    """A store whose only slide P consists of these spots of C."""
    table = store.spots("C")
    found = EmbeddingStore(folder / f"{len(rows)}.zarr")
    ids = tuple(table.spot_ids[row] for row in rows)
    part = replace(table, xy=table.xy[rows], spot_ids=ids, abundance=table.abundance[rows])
    found.write_spots(replace(part, slide="P"))
    for patch in (32, 64):
        values = store.read("C", f"net@{patch}")[rows].astype(np.float32)
        add_embedding(found, "P", f"net@{patch}", values, patch_px=patch)
    return found


def outermost(store: EmbeddingStore, count: int) -> Rows:
    xy = store.spots("C").xy
    return np.sort(np.argsort(-np.hypot(*(xy - xy.mean(axis=0)).T))[:count])


@pytest.fixture(scope="module")
def whole(store):
    return matrix_of(store, ["A", "B", "C"], FEATURES)


def predictor(whole: FeatureMatrix, model: str = "kernel") -> Predictor:
    return fit_predictor(whole, [0, 1], Setup(FEATURES, model, group_by="slide"), jobs=1)


def test_a_whole_section_is_predicted_by_its_own_statistics(whole):
    fitted = predictor(whole)
    expected = fitted.predict(whole.block(2), whole.layout.spots[2].xy)
    np.testing.assert_array_equal(fitted.predict_slide(whole, 2), expected)


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
@pytest.mark.parametrize("model", ["kernel", "ridge"])
def test_a_piece_is_predicted_more_like_its_section_as_it_grows(store, whole, tmp_path, model):
    fitted, apart = predictor(whole, model), []
    inside = fitted.predict_slide(whole, 2)
    for count in (9, 36, 53, 72):
        rows = outermost(store, count)
        part = matrix_of(piece_of(store, tmp_path, rows), ["P"], FEATURES)
        apart.append(np.abs(fitted.predict_slide(part, 0) - inside[rows]).mean())
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
@pytest.mark.parametrize("model", ["kernel", "ridge"])
def test_one_kind_of_tissue_is_not_treated_as_a_section(store, whole, tmp_path, model):
    fitted, table = predictor(whole, model), store.spots("C")
    rows = np.sort(np.argsort(table.abundance[:, 0] / table.abundance.sum(axis=1))[-12:])
    part = matrix_of(piece_of(store, tmp_path, rows), ["P"], FEATURES)
    inside = fitted.predict_slide(whole, 2)[rows]
    own = fitted.predict(part.values, part.layout.spots[0].xy)
    placed = fitted.predict_slide(part, 0)
    assert np.square(placed - inside).mean() < np.square(own - inside).mean()


def test_statistics_of_sections_are_those_of_training_slides_alone(whole):
    moments = whole.moments.copy()
    moments[2] = 1e3
    one, other = predictor(whole).sections, predictor(replace(whole, moments=moments)).sections
    for name in ("mean", "within", "between"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.mean, whole.moments[:2, 0].mean(axis=0), rtol=1e-5)


def test_neighbourhoods_are_estimated_from_the_spot_itself(whole):
    features = predictor(whole).fitted.similarities
    known = np.arange(whole.values.shape[1]) < 22  # the embeddings, before their means
    estimated = features.complete(whole.block(0), known)
    assert np.corrcoef(estimated.ravel(), whole.block(0)[:, ~known].ravel())[0, 1] > 0.8


def test_coverage_is_the_area_of_the_spots_in_micrometres_where_known(whole):
    sections, table = predictor(whole).sections, whole.layout.spots[2]
    assert sections.coverage(table) == 1
    assert sections.coverage(replace(table, xy=table.xy / 4)) == pytest.approx(1 / 12)
    known = replace(sections, um=sections.px)  # 1 um per px
    finer = replace(table, xy=table.xy * 4, um_per_px=0.25)
    assert known.coverage(finer) == known.coverage(replace(table, um_per_px=1.0)) == 1


def test_only_a_piece_is_warned_about_with_the_reasons(store, whole, tmp_path):
    part = matrix_of(piece_of(store, tmp_path, np.arange(6)), ["P"], FEATURES)
    with warnings_kept() as heard:
        predictor(whole).predict_slide(part, 0)
        predictor(whole).predict_slide(whole, 2)
    [line] = heard
    assert "slide P: covers only part of a section (it has 6 spots, its spots cover 11%" in line


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
def test_a_bundle_keeps_the_sections_and_one_without_them_predicts_as_before(store, tmp_path):
    piece = piece_of(store, tmp_path, np.arange(6))
    model = CompositionRegressor(FEATURES, "kernel").fit(store, ["A", "B"], jobs=1)
    said = model.predict(piece, "P", units="none")[0].values
    model.save(tmp_path / "m")
    loaded = CompositionRegressor.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(piece, "P", units="none")[0].values, said)
    loaded.predictor_ = replace(loaded.predictor_, sections=None)
    loaded.save(tmp_path / "old")
    old = CompositionRegressor.load(tmp_path / "old")
    part = matrix_of(piece, ["P"], FEATURES)
    expected = loaded.predictor_.composition(part.values, part.layout.spots[0].xy)
    np.testing.assert_array_equal(old.predict(piece, "P", units="none")[0].values, expected)
    assert np.abs(expected - said).max() > 1e-3


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_spots_are_predicted(store, whole, tmp_path, count):
    part = matrix_of(piece_of(store, tmp_path, np.arange(count)), ["P"], FEATURES)
    with pytest.warns(HistoboostWarning, match="slide P: covers only part"):
        assert np.isfinite(predictor(whole).predict_slide(part, 0)).all()
