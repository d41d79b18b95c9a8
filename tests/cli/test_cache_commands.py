"""`histoboost cache` from the outside: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable
from histoboost.cli import main
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom

N, D = 30, 4


@pytest.fixture
def store(tmp_path) -> Path:
    opened = EmbeddingStore(tmp_path / "store")
    for slide in ("S_2", "S_1"):
        xy = np.arange(2.0 * N).reshape(N, 2)
        opened.write_spots(SpotTable(slide, xy, tuple(map(str, range(N)))))
        writer = opened.writer(slide, "net@64", Recipe({"backbone": "net", "weights": "w"}), N, D)
        writer.write(slice(0, N), np.ones((N, D)))
        writer.publish()
    return tmp_path / "store"


def run(*arguments: object):
    return CliRunner().invoke(main, ["cache", *map(str, arguments)])


def test_list_shows_every_embedding(store, tmp_path):
    result = run("list", store, "--json", tmp_path / "list.json")
    assert result.exit_code == 0
    assert "net@64" in result.stdout
    assert "60 x 4" in result.stdout
    (row,) = json.loads((tmp_path / "list.json").read_text())["embeddings"]
    assert row["slides"] == ["S_1", "S_2"]
    assert (row["backbone"], row["weights"], row["complete"]) == ("net", "w", True)


def test_list_says_how_far_an_unfinished_embedding_is(store):
    opened = EmbeddingStore(store)
    writer = opened.writer("S_1", "new@64", Recipe({"a": 1}), N, D)
    writer.write(slice(0, N), np.ones((N, D)))
    writer.close()
    (row,) = (row for row in opened.summary() if row.name == "new@64")
    assert row.staged == {"S_1": [1, 1]}
    assert "new@64" in run("list", store).stdout


def test_verify_succeeds_on_a_whole_store(store, tmp_path):
    result = run("verify", store, "--json", tmp_path / "verify.json")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "verify.json").read_text()) == {"checked": 4, "damaged": []}


def test_verify_names_what_is_damaged_and_exits_with_1(store, tmp_path):
    (store / "slides/S_1/obsm/net@64/c/0/0").unlink()
    (store / "slides/S_2/obs/zarr.json").write_bytes(b"")
    result = run("verify", store, "--json", tmp_path / "verify.json")
    assert result.exit_code == 1
    assert "slide S_1, embedding net@64: chunk 0 is missing" in result.stdout
    assert json.loads((tmp_path / "verify.json").read_text()) == {
        "checked": 4,
        "damaged": [
            {"slide": "S_1", "embedding": "net@64", "reason": "chunk 0 is missing"},
            {
                "slide": "S_2",
                "embedding": None,
                "reason": "obs/zarr.json does not match its digest",
            },
        ],
    }


def test_remove_takes_an_embedding_from_one_slide_or_all(store):
    assert run("remove", store, "net@64", "--slide", "S_1").exit_code == 0
    assert EmbeddingStore(store).embeddings("S_1") == {}
    assert run("remove", store, "net@64").exit_code == 0
    assert EmbeddingStore(store).embeddings("S_2") == {}
    assert EmbeddingStore(store).slides() == ["S_2", "S_1"]


def test_remove_takes_a_slide(store):
    assert run("remove", store, "--slide", "S_2").exit_code == 0
    assert EmbeddingStore(store).slides() == ["S_1"]


def test_import_stores_arrays_and_does_nothing_the_second_time(store, tmp_path):
    arrays = {slide: np.random.default_rng(0).random((N, 2)) for slide in ("S_1", "S_2")}
    for slide, array in arrays.items():
        np.save(tmp_path / f"{slide}.npy", array)
    assert "stored for S_2, S_1" in run("import", store, "uni", tmp_path).stdout
    assert "already stored" in run("import", store, "uni", tmp_path).stdout
    read = EmbeddingStore(store).read("S_1", "uni")
    np.testing.assert_array_equal(read, arrays["S_1"].astype(np.float16))


def test_gc_removes_what_nobody_owns(store):
    writer = EmbeddingStore(store).writer("S_1", "new@64", Recipe({"a": 1}), N, D)
    writer.close()
    assert "removed 1 staging folders" in run("gc", store).stdout
    assert not (store / ".staging").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "typo"], "no such store"),
        (["verify", "typo"], "no such store"),
        (["remove", "typo", "net@64"], "no such store"),
        (["import", "typo", "net@64", "."], "no such store"),
        (["gc", "typo"], "no such store"),
        (["remove", "STORE", "typo"], "no embedding 'typo'; available: net@64"),
        (["remove", "STORE", "net@64", "--slide", "typo"], "no slide 'typo'; available: S_1, S_2"),
        (["remove", "STORE"], "name an embedding or a slide"),
        (["import", "STORE", "a/b", "."], "contains '/'"),
        (["import", "STORE", "new", "typo"], "no such folder"),
        (["import", "STORE", "new", "EMPTY"], "give one file per slide"),
        (["list", "s3x://bucket"], "unknown scheme"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_exit_code_2(store, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"STORE": str(store), "EMPTY": str(tmp_path / "empty"), "typo": "typo"}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_typo_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("remove", "typo", "net@64")
    run("import", "typo", "net@64", ".")
    assert list(tmp_path.iterdir()) == []


def test_relabel_takes_groups_and_abundances_over_and_keeps_embeddings(tmp_path):
    data = write_phantom(tmp_path / "slides.h5", slides=2, unlabelled=0, spots=20)
    featurize(data, tmp_path / "store", backbone="stain-texture", patch=[16])
    opened = EmbeddingStore(tmp_path / "store")
    before = {slide: opened.read(slide, "stain-texture@16") for slide in opened.slides()}
    groups = tmp_path / "groups.csv"
    groups.write_text("slide,group\n" + "".join(f"{slide},P\n" for slide in before))
    result = run("relabel", tmp_path / "store", data, "--groups", groups)
    assert result.stdout == "".join(f"{slide}: group added\n" for slide in before)
    for slide, rows in before.items():
        assert opened.spots(slide).group == "P"
        np.testing.assert_array_equal(opened.read(slide, "stain-texture@16"), rows)
    again = run("relabel", tmp_path / "store", data, "--groups", groups)
    assert again.stdout == f"{tmp_path / 'store'}: already has these labels\n"
    assert not opened.verify().damaged


def test_relabel_of_a_mistyped_store_makes_none(tmp_path):
    data = write_phantom(tmp_path / "slides.h5", slides=1, unlabelled=0, spots=20)
    result = run("relabel", tmp_path / "mistyped", data)
    assert result.exit_code == 2
    assert not (tmp_path / "mistyped").exists()
