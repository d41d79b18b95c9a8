"""Slides of a large source are read lazily and equal those of a small one."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.slides import slide as module
from histoboost.slides.groups import with_groups
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.turned_slide import turned_dataset

SLIDES = 6
HOLD = 3 * (module.LEAST_SPOTS + 4)  # three slides


def manifest(folder: Path, spots: Callable[[int], str] = lambda _: "") -> Path:
    """Write a manifest of six slides with four spots each, or the table that `spots` gives."""
    rows = ["slide,image,spots,abundances"]
    for at in range(SLIDES):
        pixels = np.random.default_rng(at).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
        table = spots(at) or "spot,x,y,A,B\n" + "".join(
            f"s{k},{10 + 8 * (k % 2)},{10 + 8 * (k // 2)},{k + 1},{at + 1}\n" for k in range(4)
        )
        (folder / f"{at}.csv").write_text(table)
        rows.append(f"S_{at},{at}.png,{at}.csv,{at}.csv")
    (folder / "slides.csv").write_text("\n".join(rows))
    return folder / "slides.csv"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SPOTS", HOLD)


def same(one: Slide, other: Slide) -> bool:
    return not one.spot_table().differences(other.spot_table()) and one.group == other.group


def changed(data: Path) -> Dataset:
    (data.parent / "groups.csv").write_text(
        "slide,group\n" + "".join(f"S_{at},g{at % 2}\n" for at in range(SLIDES))
    )
    return turned_dataset(with_groups(open_dataset(data), data.parent / "groups.csv"), "90")


def test_lazily_read_slides_equal_those_in_memory(tmp_path, monkeypatch):
    data = manifest(tmp_path)
    small = changed(data)
    monkeypatch.setattr(module, "MOST_SPOTS", HOLD)
    found = changed(data)
    assert found.names == small.names == [f"S_{at}" for at in range(SLIDES)]
    assert found.cell_types == small.cell_types
    assert all(map(same, found.slides, small.slides))
    assert same(found["S_5"], small["S_5"])
    assert all(map(same, found.slides[-2:], small.slides[-2:]))


def test_slides_beyond_the_memory_limit_are_released(tmp_path, large):
    slides = open_dataset(manifest(tmp_path)).slides
    left = [weakref.ref(slides[at]) for at in range(SLIDES)]
    assert [slide() is not None for slide in left] == [True] * 3 + [False] * 3


def test_another_process_can_read_a_slide(tmp_path, large):
    found = changed(manifest(tmp_path))
    sent = [pickle.loads(pickle.dumps(read)) for read in found.reads()]
    assert all(same(read(), slide) for read, slide in zip(sent, found.slides, strict=True))
    assert len(pickle.dumps(found.reads()[-1])) < 2000


@pytest.mark.parametrize("bad", range(SLIDES))
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("spot,x,y,A,C\na,9,9,1,1\n", "other cell types"),
        ("spot,x,y,A,B\na,900,9,1,1\n", "outside the image"),
        ("spot,x,A,B\na,9,1,1\n", "no column 'y'"),
    ],
)
def test_an_inconsistent_slide_is_refused_before_anything_is_written(
    tmp_path, large, bad, table, message
):
    if message == "other cell types" and bad == 0:
        pytest.skip("the first says which there are")
    data = manifest(tmp_path, lambda at: table if at == bad else "")
    with pytest.raises(HistoboostError, match=f"slide S_{bad}.*{message}"):
        featurize(data, tmp_path / "store", backbone="none")
    assert not (tmp_path / "store").exists()


def test_a_slide_listed_twice_is_refused_without_reading(tmp_path, large):
    data = manifest(tmp_path)
    data.write_text(data.read_text() + "\nS_1,1.png,1.csv,1.csv")
    with pytest.raises(HistoboostError, match="two slides are called 'S_1'"):
        open_dataset(data)


@pytest.mark.parametrize(
    ("plain", "options"),
    [
        (False, {"backbone": "none"}),
        (False, {"backbone": "stain-texture", "patch": 8}),
        (True, {"backbone": "none", "pitch": 10, "tissue": "all"}),
    ],
)
def test_lazily_read_slides_give_the_same_store(tmp_path, monkeypatch, plain, options):
    data = manifest(tmp_path)
    if plain:
        for file in tmp_path.glob("*.csv"):
            file.unlink()
        data = tmp_path
    small, large = EmbeddingStore(tmp_path / "small"), EmbeddingStore(tmp_path / "large")
    featurize(data, small, **options)
    monkeypatch.setattr(module, "MOST_SPOTS", HOLD)
    done = featurize(data, large, **options)
    assert large.slides() == small.slides() == done.slides
    for name in small.slides():
        assert not small.spots(name).differences(large.spots(name))
        assert small.embeddings(name) == large.embeddings(name)
        for embedding in small.embeddings(name):
            np.testing.assert_array_equal(small.read(name, embedding), large.read(name, embedding))
