"""`histoboost cache`: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom

N, D = 30, 4


@pytest.fixture
def store(tmp_path: Path) -> Path:
    opened = EmbeddingStore(tmp_path / "store")
    for slide in ("S_2", "S_1"):
        xy = np.arange(2.0 * N).reshape(N, 2)
        opened.write_spots(SpotTable(slide, xy, tuple(map(str, range(N)))))
        recipe = Recipe({"backbone": "net", "weights": "w"})
        opened.writer(slide, "net@64", recipe, N, D).write_all(np.ones((N, D), np.float16))
    return tmp_path / "store"


@pytest.fixture
def unfinished(store: Path) -> Path:
    """The store, with an embedding that was computed but not published."""
    writer = EmbeddingStore(store).writer("S_1", "new@64", Recipe({"a": 1}), N, D)
    writer.write(slice(0, N), np.ones((N, D)))
    writer.close()
    return store


def test_list_shows_every_embedding(succeeds, store, tmp_path):
    shown = succeeds("cache", "list", store, "--json", tmp_path / "list.json").stdout
    assert "net@64" in shown
    assert "60 x 4" in shown
    (row,) = json.loads((tmp_path / "list.json").read_text())["embeddings"]
    assert row["slides"] == ["S_1", "S_2"]
    assert (row["backbone"], row["weights"], row["complete"]) == ("net", "w", True)


def test_list_shows_the_progress_of_an_unfinished_embedding(succeeds, unfinished):
    shown = succeeds("cache", "list", unfinished).stdout
    assert "no: S_1 (1/1 chunks)" in " ".join(shown.split())


def test_verify_succeeds_on_an_intact_store(succeeds, store, tmp_path):
    succeeds("cache", "verify", store, "--json", tmp_path / "verify.json")
    assert json.loads((tmp_path / "verify.json").read_text()) == {"checked": 4, "damaged": []}


def test_verify_names_what_is_damaged_and_exits_with_1(run, store, tmp_path):
    (store / "slides/S_1/obsm/net@64/c/0/0").unlink()
    (store / "slides/S_2/obs/zarr.json").write_bytes(b"")
    result = run("cache", "verify", store, "--json", tmp_path / "verify.json")
    assert result.exit_code == 1
    assert "slide S_1, embedding net@64: chunk 0 is missing" in result.stdout
    table = "obs/zarr.json does not match its digest"
    assert json.loads((tmp_path / "verify.json").read_text()) == {
        "checked": 4,
        "damaged": [
            {"slide": "S_1", "embedding": "net@64", "reason": "chunk 0 is missing"},
            {"slide": "S_2", "embedding": None, "reason": table},
        ],
    }


def test_remove_deletes_an_embedding_of_one_slide_or_all_or_a_slide(succeeds, store):
    succeeds("cache", "remove", store, "net@64", "--slide", "S_1")
    assert EmbeddingStore(store).embeddings("S_1") == {}
    assert list(EmbeddingStore(store).embeddings("S_2")) == ["net@64"]
    succeeds("cache", "remove", store, "net@64")
    assert EmbeddingStore(store).embeddings("S_2") == {}
    assert EmbeddingStore(store).slides() == ["S_2", "S_1"]
    succeeds("cache", "remove", store, "--slide", "S_2")
    assert EmbeddingStore(store).slides() == ["S_1"]


def test_import_stores_arrays_and_does_nothing_the_second_time(succeeds, store, tmp_path):
    array = np.random.default_rng(0).random((N, 2))
    for slide in ("S_1", "S_2"):
        np.save(tmp_path / f"{slide}.npy", array)
    for done in ("imported for S_2, S_1", "already imported"):
        assert done in succeeds("cache", "import", store, "uni", tmp_path).stdout
    read = EmbeddingStore(store).read("S_1", "uni")
    np.testing.assert_array_equal(read, array.astype(np.float16))


def test_gc_removes_leftovers(succeeds, unfinished):
    assert "removed 1 staging folders" in succeeds("cache", "gc", unfinished).stdout
    assert not (unfinished / ".staging").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("list typo", "no such store"),
        ("verify typo", "no such store"),
        ("remove typo net@64", "no such store"),
        ("import typo net@64 .", "no such store"),
        ("gc typo", "no such store"),
        ("relabel typo slides.h5", "no such store"),
        ("remove store typo", "no embedding 'typo'; available: net@64"),
        ("remove store net@64 --slide typo", "no slide 'typo'; available: S_1, S_2"),
        ("remove store", "name an embedding or a slide"),
        ("import store a/b .", "contains '/'"),
        ("import store new typo", "no such folder"),
        ("import store new empty", "give one file per slide"),
        ("list s3x://bucket", "unknown scheme"),
    ],
)
@pytest.mark.usefixtures("store")
def test_bad_input_is_one_line_and_exit_code_2(
    refusal, tmp_path, monkeypatch, phantom_h5, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("slides.h5").symlink_to(phantom_h5)
    assert message in refusal("cache", *arguments.split())
    assert not Path("typo").exists()


def test_relabel_updates_groups_and_keeps_embeddings(succeeds, tmp_path):
    data = write_phantom(tmp_path / "slides.h5", slides=2, unlabelled=0, spots=20)
    featurize(data, tmp_path / "store", backbone="stain-texture", patch=[16])
    opened = EmbeddingStore(tmp_path / "store")
    before = {slide: opened.read(slide, "stain-texture@16") for slide in opened.slides()}
    groups = tmp_path / "groups.csv"
    groups.write_text("slide,group\n" + "".join(f"{slide},P\n" for slide in before))
    command = ("cache", "relabel", tmp_path / "store", data, "--groups", groups)
    assert succeeds(*command).stdout == "".join(f"{slide}: group added\n" for slide in before)
    for slide, rows in before.items():
        assert opened.spots(slide).group == "P"
        np.testing.assert_array_equal(opened.read(slide, "stain-texture@16"), rows)
    assert succeeds(*command).stdout == f"{tmp_path / 'store'}: already has these labels\n"
    assert not opened.verify().damaged
