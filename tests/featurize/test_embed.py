"""`featurize`: complete, named as requested, and loud where it must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset


@pytest.fixture
def data(noise_slide) -> Dataset:
    return Dataset(Path("memory"), [noise_slide()])


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


def test_backbone_none_stores_spots_abundances_and_groups_only(tmp_path: Path, phantom_h5: Path):
    (tmp_path / "groups.csv").write_text(
        "slide,group\n" + "".join(f"S_{k},patient A\n" for k in range(1, 5))
    )
    groups = tmp_path / "groups.csv"
    featurize(phantom_h5, tmp_path / "store", backbone="none", groups=groups)
    store = EmbeddingStore(tmp_path / "store", mode="r")
    assert store.spots("S_1").abundance is not None
    assert store.spots("S_1").group == "patient A"
    assert store.embeddings("S_1") == {}


def test_names_can_be_chosen(tmp_path: Path, data: Dataset):
    featurize(data, tmp_path / "s", backbone="stain-texture", patch=[8], name="mine")
    featurize(data, tmp_path / "s", backbone="stain-texture", patch=[8, 16], name="both")
    assert set(EmbeddingStore(tmp_path / "s").embeddings("S")) == {"mine", "both@8", "both@16"}


def test_flat_patches_are_warned_of(tmp_path: Path, data: Dataset):
    data.slides[0].image.pixels[:] = 1  # what casting 0..1 floats to uint8 leaves
    with pytest.warns(HistoboostWarning, match="9 of 9 patches of 8 px are one flat colour"):
        featurize(data, tmp_path / "store", backbone="stain-texture", patch=[8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "did you mean resnet18"),
        ({"stain": "vahadane"}, "unknown; give none, macenko, reinhard"),
        ({"name": "a+b"}, "embedding name 'a.b'"),
        ({"device": "cuda:99"}, "torch sees"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, data, options, message):
    with pytest.raises(HistoboostError, match=message):
        featurize(data, tmp_path / "store", **{"backbone": "stain-texture", "patch": 8, **options})
    assert not (tmp_path / "store").exists()
