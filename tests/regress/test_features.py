"""Feature-set expressions and their matrices."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.regress.expression import parse_features, resolve
from histoboost.regress.features import assemble
from histoboost.regress.fitting import fit_predictor
from histoboost.regress.neighbors import area_mean, ring_mean
from histoboost.regress.setup import Setup
from histoboost.spots import SpotTable

from .conftest import add_embedding, fill_store, layout_of, matrix_of

NAMES = st.sampled_from(["resnet50@64", "a", "net_v2@*", "mine-1.x", "ring1"])
PLAIN = st.one_of(
    NAMES,
    st.just("coords"),
    st.builds("{}:ring{}".format, NAMES, st.integers(1, 99)),
    st.builds("{}:area{}".format, NAMES, st.integers(1, 100)),
)
PCA = st.builds(
    lambda k, inner: f"pca:{k}({'+'.join(inner)})",
    st.integers(1, 99999),
    st.lists(PLAIN, min_size=1, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(PLAIN, PCA), min_size=1, max_size=5))
def test_what_is_parsed_prints_as_it_was_written(terms):
    spec = "+".join(terms)
    assert "+".join(str(term) for term in parse_features(spec)) == spec


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab@:ringe12(pca)+ *coords", max_size=20))
def test_any_text_is_parsed_or_refused_in_one_line(spec):
    refused = ""
    try:
        assert parse_features(spec)
    except HistoboostError as error:
        refused = str(error)
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "a term is empty"),
        ("a++b", "a term is empty"),
        ("a:ring0", "cannot read 'a:ring0'"),
        ("a:area0", "cannot read 'a:area0'; write NAME, NAME:ring1, NAME:area10"),
        ("a:area101", "cannot read 'a:area101'"),
        ("a:area10:ring1", "cannot read"),
        ("coords:area10", "coords has no neighbourhood; write coords"),
        ("default:ring1", "default has no neighbourhood; write default"),
        ("pca:4(a", "parentheses do not match"),
        ("pca:4(pca:2(a))", "pca inside pca"),
        ("pca:0(a)", "cannot read"),
    ],
)
def test_a_malformed_expression_says_what_is_wrong(spec, message):
    with pytest.raises(HistoboostError, match=message):
        parse_features(spec)


def test_globs_are_resolved_in_natural_order_and_each_term_enters_once():
    terms = parse_features("net@*+net@64+coords+net@*:ring1+coords")
    found = resolve(terms, ["net@128", "net@64"], "store")
    expected = ["net@64", "net@128", "coords", "net@64:ring1", "net@128:ring1"]
    assert [str(term) for term in found] == expected


@pytest.mark.parametrize(
    ("known", "areas_of"),
    [
        (["net@64", "net@128"], ["net@64", "net@128"]),
        (["net@64.features.3.std", "net@64.features.13"], ["net@64.features.13"]),
        (["net@64.features.1.std"], []),
    ],
    ids=["last layers", "deep layers", "spreads alone"],
)
def test_default_is_every_embedding_and_the_areas_of_those_that_are_means(known, areas_of):
    plain = [str(term) for term in resolve(parse_features("*"), known, "store")]
    around = [f"{name}:area{percent}" for percent in (1, 10, 90) for name in areas_of]
    found = [str(term) for term in resolve(parse_features("default"), known, "store")]
    assert found == [*plain, *around]
    again = [str(term) for term in resolve(parse_features("default+*+coords"), known, "store")]
    assert again == [*found, "coords"]

    with pytest.raises(HistoboostError, match="there are none"):
        resolve(parse_features("default"), [], "store")


def test_an_embedding_that_a_slide_lacks_is_left_out_of_a_glob_and_refused_by_name(make_store):
    store = make_store()
    store.remove("net@64", "B")
    with pytest.warns(HistoboostWarning, match="net@64 is left out: missing on slide B"):
        layout = layout_of(store, ["A", "B", "C"], "net@*")
    assert layout.features == "net@32"
    assert layout_of(store, ["A", "C"], "net@*").features == "net@32+net@64"
    with pytest.raises(HistoboostError, match="net@64: missing on slide B"):
        layout_of(store, ["A", "B"], "net@32+net@64")


def test_more_components_than_columns_are_limited_with_one_warning(store):
    spec = "pca:999(net@32+net@64:ring1)+pca:12(net@32)+coords"
    with pytest.warns(HistoboostWarning, match="only 22 columns") as heard:
        layout = layout_of(store, ["A", "B"], spec)
    assert len(heard) == 1
    assert layout.features == "pca:22(net@32+net@64:ring1)+pca:12(net@32)+coords"
    with warnings.catch_warnings(action="error"):
        again = layout_of(store, ["A", "B"], layout.features)
    assert again.columns == layout.columns


def test_the_matrix_holds_what_the_expression_says(store):
    spec = "net@64+net@32:ring2+net@32:area10+coords"
    matrix = matrix_of(store, ["A", "C"], spec, standardize="none")
    plain = store.read("C", "net@64").astype(np.float32)
    small, xy = store.read("C", "net@32").astype(np.float32), store.spots("C").xy
    coords = (xy - xy.min(0)) / np.ptp(xy, axis=0)
    around = ring_mean(xy, 2) @ small, area_mean(xy, 10) @ small
    assert matrix.values.dtype == np.float32
    np.testing.assert_allclose(matrix.block(1), np.c_[plain, *around, coords], atol=1e-6)
    assert matrix.layout.features == spec


def test_rows_of_a_slide_do_not_depend_on_the_other_slides(store):
    spec = "net@*+net@*:ring2+coords"
    together = matrix_of(store, ["A", "B", "D"], spec)
    for index, slide in enumerate("ABD"):
        alone = matrix_of(store, [slide], spec)
        np.testing.assert_array_equal(together.block(index), alone.values)


def test_standardised_columns_have_mean_0_and_variance_1_in_every_slide(store):
    block = matrix_of(store, ["A", "B"], "net@32").block(1)
    np.testing.assert_allclose(block.mean(axis=0), 0, atol=1e-5)
    assert block.std(axis=0).min() > 0.7  # clipping may take a little of the 1


def test_a_column_that_hardly_varies_is_not_blown_up(tmp_path):
    store = EmbeddingStore(fill_store(tmp_path / "s.zarr", slides=2))
    rng = np.random.default_rng(0)
    for slide in "AB":
        values = np.full((72, 2), 3.0, dtype=np.float32)
        values[:, 1] = 1e-5 * rng.normal(size=72)
        add_embedding(store, slide, "flat", values)
    assert np.abs(matrix_of(store, ["A"], "flat").values).max() < 0.1


@pytest.mark.parametrize(
    ("slides", "spec", "message"),
    [
        (["A", "Z"], "net@32", "no slide 'Z'; there are A, B, C, D"),
        ([], "net@32", "none chosen"),
        (["A"], "net@16", "no embedding matches 'net@16'; there are net@32, net@64"),
    ],
)
def test_missing_slides_and_embeddings_are_named(store, slides, spec, message):
    with pytest.raises(HistoboostError, match=message):
        matrix_of(store, slides, spec)


def test_embeddings_that_were_made_differently_or_are_not_finite_are_refused(store, monkeypatch):
    # A store refuses both on writing; one put together by hand does not.
    layout, made = layout_of(store, ["A", "B"], "net@32"), store.embeddings
    other = {"net@32": Recipe({"backbone": "net@32", "patch_px": 33})}
    with monkeypatch.context() as patch:
        patch.setattr(store, "embeddings", lambda slide: other if slide == "B" else made(slide))
        with pytest.raises(HistoboostError, match="made differently on A and B .*patch_px"):
            layout_of(store, ["A", "B"], "net@32")
    monkeypatch.setattr(store, "reading", lambda *_: lambda rows: np.full((72, 12), np.inf)[rows])
    with pytest.raises(HistoboostError, match="not finite on slide A"):
        assemble(store, layout)


def test_a_slide_of_one_spot_has_features(tmp_path):
    store = EmbeddingStore(tmp_path / "s.zarr")
    store.write_spots(SpotTable("one", np.array([[5.0, 6.0]]), ("0",)))
    add_embedding(store, "one", "n", np.array([[1.0, 2.0]], np.float32))
    values = matrix_of(store, ["one"], "n+n:ring1+coords").values
    np.testing.assert_array_equal(values, [[0, 0, 0, 0, 0.5, 0.5]])


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A store whose embedding `twice` is net@32 and net@32 again."""
    store = EmbeddingStore(fill_store(tmp_path_factory.mktemp("twice") / "s.zarr"))
    for slide in "ABCD":
        values = store.read(slide, "net@32").astype(np.float32)
        add_embedding(store, slide, "twice", np.tile(values, 2))
    return store


@pytest.mark.parametrize("model", ["ridge", "kernel"])
@pytest.mark.parametrize("once", ["net@64+net@32", "net@64+pca:3(net@32)", "net@32:ring1+net@64"])
def test_an_embedding_counts_the_same_at_twice_its_width(twice, model, once):
    found = []
    for features in (once, once.replace("net@32", "twice")):
        matrix = matrix_of(twice, ["A", "B", "C"], features)
        predictor = fit_predictor(matrix, [0, 1], Setup(features, model, group_by="slide"))
        found.append(predictor.predict(matrix.block(2), matrix.layout.spots[2].xy))
    np.testing.assert_allclose(*found, atol=2e-3)
    assert np.ptp(found[0], axis=0).min() > 0.01
