"""A data file that is replaced while a run is at it."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import h5py
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom
from histoboost.slides.readers import open_dataset


def test_spots_are_not_put_on_pixels_of_a_file_that_took_the_place_of_theirs(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "data.h5", tmp_path / "other.h5"
    write_phantom(path, slides=2, spots=12)
    shutil.copy(path, other)
    with h5py.File(other, "r+") as file:
        image = file["images/Train/S_1"]
        image[...] = image[...][::-1]
    opened = open_dataset(path)
    other.replace(path)
    with pytest.raises(HistoboostError, match="slide S_1: its file has changed"):
        featurize(opened, tmp_path / "store", backbone="stain-texture", patch=[16])
    assert EmbeddingStore(tmp_path / "store").slides() == []
    featurize(open_dataset(path), tmp_path / "store", backbone="stain-texture", patch=[16])
    assert EmbeddingStore(tmp_path / "store").slides() == ["S_1", "S_2", "S_3"]


def test_a_copy_of_the_file_on_another_machine_may_be_of_another_age(tmp_path: Path) -> None:
    write_phantom(tmp_path / "data.h5", slides=2, spots=12)
    slide = open_dataset(tmp_path / "data.h5").slides[0]
    sent = pickle.dumps(slide)
    os.utime(tmp_path / "data.h5", (0, 0))
    pickle.loads(sent).check_unchanged()
    with pytest.raises(HistoboostError, match="has changed"):
        slide.check_unchanged()
