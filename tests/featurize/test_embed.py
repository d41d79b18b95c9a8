"""The embedding loop: the same numbers as the plain way, complete, resumable, loud when wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide


def small_slide(name: str = "S", spots: int = 9, seed: int = 0) -> Slide:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (70, 90, 3), np.uint8)
    xy = rng.random((spots, 2)) * [90, 70]
    xy[:4] = [[0, 0], [90, 70], [0, 70], [89.5, 0.5]]  # all four corners
    return Slide(name, ArrayImage(pixels), xy, tuple(map(str, range(spots))))


def data(*slides: Slide) -> Dataset:
    return Dataset(Path("memory"), slides or (small_slide(),))


def test_all_slides_and_sizes_are_stored_complete(tmp_path: Path, phantom_h5: Path):
    summary = featurize(phantom_h5, tmp_path / "store", backbone="stain-texture", patch=[16, 32])
    store = EmbeddingStore(tmp_path / "store", mode="r")
    source = open_dataset(phantom_h5)
    assert store.slides() == [slide.name for slide in source.slides] == summary.slides
    for slide in source.slides:
        table = store.spots(slide.name)
        np.testing.assert_array_equal(table.xy, slide.xy)
        assert table.cell_types == slide.cell_types
        assert list(store.embeddings(slide.name)) == ["stain-texture@16", "stain-texture@32"]
        rows = store.read(slide.name, "stain-texture@32")
        assert rows.shape == (len(slide.xy), 105)
        assert np.isfinite(rows).all()
    assert summary.computed == 2 * sum(len(slide.xy) for slide in source.slides)


def test_a_second_run_computes_nothing_and_says_so(tmp_path, phantom_h5, monkeypatch):
    featurize(phantom_h5, tmp_path / "store", backbone="stain-texture", patch=[16])
    again = featurize(phantom_h5, tmp_path / "store", backbone="stain-texture", patch=[16])
    assert again.computed == 0
    assert "nothing computed" in str(again)


def test_backbone_none_stores_spots_and_abundances_only(tmp_path: Path, phantom_h5: Path):
    featurize(phantom_h5, tmp_path / "store", backbone="none")
    store = EmbeddingStore(tmp_path / "store", mode="r")
    assert store.spots("S_1").abundance is not None
    assert store.embeddings("S_1") == {}


def test_groups_travel_with_the_spots(tmp_path: Path):
    (tmp_path / "groups.csv").write_text("slide,group\nS,patient A\n")
    featurize(data(), tmp_path / "store", backbone="none", groups=tmp_path / "groups.csv")
    assert EmbeddingStore(tmp_path / "store").spots("S").group == "patient A"


def test_other_pixels_under_the_same_name_are_refused(tmp_path: Path):
    featurize(data(small_slide(seed=0)), tmp_path / "store", backbone="stain-texture", patch=[8])
    other = small_slide(seed=0)
    other.image.pixels[3, 3] += 1
    with pytest.raises(HistoboostError, match="the image of the slide has changed"):
        featurize(data(other), tmp_path / "store", backbone="stain-texture", patch=[8])


def test_names_can_be_chosen(tmp_path: Path):
    featurize(data(), tmp_path / "s", backbone="stain-texture", patch=[8], name="mine")
    featurize(data(), tmp_path / "s", backbone="stain-texture", patch=[8, 16], name="both")
    assert set(EmbeddingStore(tmp_path / "s").embeddings("S")) == {"mine", "both@8", "both@16"}


def test_flat_patches_raise_an_alarm(tmp_path: Path):
    slide = small_slide()
    slide.image.pixels[:] = 1  # what casting 0..1 floats to uint8 leaves
    with pytest.warns(HistoboostWarning, match="9 of 9 patches of 8 px are one flat colour"):
        featurize(data(slide), tmp_path / "store", backbone="stain-texture", patch=[8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19", "patch": [8]}, "did you mean resnet18"),
        ({"backbone": "stain-texture"}, "no patch size given"),
        ({"backbone": "stain-texture", "patch": [0]}, "0 is no size"),
        ({"backbone": "stain-texture", "patch": [8], "name": "a+b"}, "embedding name 'a.b'"),
        ({"backbone": "stain-texture", "patch": [8], "device": "tpu"}, "device 'tpu': unknown"),
        ({"backbone": "stain-texture", "patch": [8], "device": "cuda:99"}, "torch sees"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(HistoboostError, match=message):
        featurize(data(), tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()
