"""Novelty is the distance to the training spots, however it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.regress.heads import blocks
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.novelty import Novelty, fit_novelty

from .conftest import add_embedding

NAMES = ("net@32", "net@64")


def add_slide(store: EmbeddingStore, slide: str, change: Callable[..., np.ndarray]) -> str:
    """Add a copy of slide A with changed embeddings."""
    store.write_spots(replace(store.spots("A"), slide=slide, abundance=None, cell_types=()))
    for name in NAMES:
        values = change(store.read("A", name).astype(np.float32))
        add_embedding(store, slide, name, values, patch_px=int(name[-2:]))
    return slide


@pytest.fixture
def many(make_store):
    """Seven labelled slides A to G and H without labels, all similar."""
    return make_store(slides=8)


def novelty_of(judge: Novelty, store: EmbeddingStore, slide: str) -> np.ndarray:
    """Novelty of the spots of a slide."""
    return np.maximum(*judge.by_view(store, store.spots(slide)))


def model_of(store: EmbeddingStore, **more: object) -> CompositionRegressor:
    return CompositionRegressor("net@32+net@64", "ridge").fit(store, **more)


def test_noise_is_unlike_the_training_slides_and_a_copy_of_one_is_not(many):
    rng = np.random.default_rng(0)
    noise = add_slide(many, "noise", lambda x: 30 * rng.normal(size=x.shape))
    again = add_slide(many, "again", lambda x: x)
    with pytest.warns(HistoboostWarning, match="slide noise: is unlike .*do not rely on"):
        found = model_of(many).predict(many, [noise, again, "H"])
    assert [said.unlike for said in found] == [True, False, False]
    assert [bool(said.warnings) for said in found] == [True, False, False]
    assert found[0].novel_share == 1
    assert found[1].novel_share < 0.05


def test_spots_of_another_tissue_are_novel_within_a_slide_of_the_same_stain(many):
    rng = np.random.default_rng(0)

    def other_tissue(values: np.ndarray) -> np.ndarray:
        """Keep the moments of every column, but no structure among columns."""
        return np.stack([rng.permutation(column) for column in values.T], axis=1)

    slide = add_slide(many, "other", other_tissue)
    with pytest.warns(HistoboostWarning, match="unlike the training slides in tissue"):
        [said] = model_of(many).predict(many, slide)
    [same] = model_of(many).predict(many, "H")
    assert np.median(said.novelty) > 1.5 * np.median(same.novelty)


def test_novelty_depends_neither_on_the_order_nor_on_the_rows_read_at_once(many, monkeypatch):
    order = np.random.default_rng(0).permutation(len(many.spots("A")))
    tables = [many.spots(slide) for slide in "BCD"]
    judge = fit_novelty(many, tables, NAMES, 0)
    expected = novelty_of(judge, many, "A")
    assert np.isfinite(expected).all()
    assert (expected >= 0).all()
    shuffled = novelty_of(judge, many, add_slide(many, "shuffled", lambda x: x[order]))
    np.testing.assert_allclose(shuffled, expected[order], rtol=1e-4)
    other = fit_novelty(many, tables[::-1], NAMES, 0)
    np.testing.assert_allclose(novelty_of(other, many, "A"), expected, rtol=1e-3)
    monkeypatch.setattr(blocks, "ROWS", 7)
    pieces = fit_novelty(many, tables, NAMES, 0)
    np.testing.assert_allclose(novelty_of(pieces, many, "A"), expected, rtol=1e-3)


def test_one_odd_training_slide_does_not_loosen_what_counts_as_far(many):
    odd = add_slide(many, "odd", lambda x: 4 * x[::-1] + 5)
    tables = [many.spots(slide) for slide in "ABCDE"]
    plain = fit_novelty(many, tables, NAMES, 0)
    with_odd = fit_novelty(many, [*tables, many.spots(odd)], NAMES, 0)
    medians = [np.median(novelty_of(each, many, "H")) for each in (plain, with_odd)]
    assert 0.6 < medians[1] / medians[0] < 1.5


def test_copies_of_one_slide_and_embeddings_without_variance_give_finite_novelty(many):
    add_slide(many, "copy", lambda x: x)
    flat = add_slide(many, "flat", lambda x: np.ones_like(x))
    for pair in (("A", "copy"), (flat, "A"), (flat, flat)):
        judge = fit_novelty(many, [many.spots(slide) for slide in pair], NAMES, 0)
        for slide in ("H", flat):
            assert np.isfinite(novelty_of(judge, many, slide)).all()


def test_novelty_survives_the_bundle_and_is_small_there_and_refused_if_inconsistent(many, tmp_path):
    first = model_of(many)
    first.save(tmp_path / "m")
    [a], [b] = (m.predict(many, "H") for m in (first, CompositionRegressor.load(tmp_path / "m")))
    np.testing.assert_array_equal(a.novelty, b.novelty)
    widths, arrays = first.guard_.novelty.to_files()
    assert 0 < sum(array.nbytes for array in arrays.values()) < 1_000_000
    with pytest.raises(ValueError, match="does not fit"):
        Novelty.from_files(widths | {"more": 3}, arrays)


def test_nothing_is_judged_by_a_model_of_one_slide_or_one_that_uses_no_embeddings(many):
    one = model_of(many, slides="A")
    for model in (one, CompositionRegressor(model="coords").fit(many)):
        [said] = model.predict(many, "H")
        assert (said.novelty, said.novel_share, said.unlike) == (None, None, False)
        assert "novelty" not in said.to_frame()
