"""Names that could escape the store or never be addressed are refused."""

from __future__ import annotations

import pytest

from histoboost.errors import HistoboostError
from histoboost.names import (
    check_embedding_name,
    check_slide_name,
    is_embedding_name,
    is_slide_name,
)

BAD_EVERYWHERE = [
    "",
    ".",
    "..",
    "../../etc",
    "a/b",
    "a\\b",
    "/abs",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\u202eb",
    "\ud800",
    "x" * 201,
    "x" * 300,
    "ü" * 150,
    ".hidden",
    "__reserved",
    " a",
    "a ",
    "zarr.json",
]


@pytest.mark.parametrize("name", BAD_EVERYWHERE, ids=ascii)
def test_bad_names_are_refused_for_slides_and_embeddings(name):
    assert not is_slide_name(name)
    assert not is_embedding_name(name)
    for check in (check_slide_name, check_embedding_name):
        with pytest.raises(HistoboostError, match="choose another name") as caught:
            check(name)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a+b", "a:ring1", "net@*", "a?", "a[1]", "a,b", "coords"])
def test_embedding_names_exclude_operators_of_feature_sets(name):
    with pytest.raises(HistoboostError):
        check_embedding_name(name)
    check_slide_name(name)


@pytest.mark.parametrize("name", ["spatial", "abundance"])
def test_names_of_the_spot_table_are_taken(name):
    with pytest.raises(HistoboostError, match="is reserved"):
        check_embedding_name(name)


@pytest.mark.parametrize("name", ["mobilenet_v2@64", "x" * 200, "Größe 1", "a.b-c_d@64x", "脳"])
def test_good_names_pass(name):
    assert check_slide_name(name) == check_embedding_name(name) == name


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 300, "a\nb"])
def test_the_store_checks_every_name_it_is_given(store, table, recipe, tmp_path, name):
    calls = [
        lambda: store.write_spots(table(name)),
        lambda: store.spots(name),
        lambda: store.embeddings(name),
        lambda: store.read("S_1", name),
        lambda: store.read(name, "net@64"),
        lambda: store.width("S_1", name),
        lambda: store.writer("S_1", name, recipe(), 2100, 3),
        lambda: store.writer(name, "net@64", recipe(), 2100, 3),
        lambda: store.remove(name),
        lambda: store.remove("net@64", slide=name),
        lambda: store.remove(slide=name),
        lambda: store.import_arrays(name, tmp_path),
    ]
    for call in calls:
        with pytest.raises(HistoboostError, match="choose another name"):
            call()
