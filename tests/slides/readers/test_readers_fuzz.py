"""Damaged and hostile files of every format: read, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.slides.images.base import bands
from histoboost.slides.inspect import inspect
from histoboost.slides.readers import open_dataset


def read_all(path: Path) -> None:
    for slide in open_dataset(path).slides:
        for _ in bands(slide.image):
            pass


FORMATS = ["hdf5 of uint8", "anndata in h5ad", "anndata in zarr", "spaceranger", "manifest of png"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [15, pytest.param(800, marks=pytest.mark.soak)])
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, write_format, fuzz, format, count):
    path = write_format(format)
    fuzz(tmp_path, count, lambda: read_all(path))


def structured(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, [("x", "f4"), ("y", "f4"), ("A", "f4")])


@pytest.mark.parametrize(
    ("spots", "message"),
    [
        (structured(()), r"has shape \(\); store one row per spot"),
        (structured((2, 3)), r"has shape \(2, 3\); store one row per spot"),
        (np.float32(1), "no column 'x'"),
        (h5py.Empty("f4"), "no column 'x'"),
    ],
)
def test_hdf5_spots_that_are_not_a_table_are_one_clear_line(tmp_path: Path, spots, message: str):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images/S"] = np.zeros((9, 9, 3), np.uint8)
        file["spots/S"] = spots
    with pytest.raises(HistoboostError, match=message):
        open_dataset(tmp_path / "data.h5")


def test_inspect_reports_a_table_without_rows(tmp_path: Path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images/S"] = np.zeros((9, 9, 3), np.uint8)
        file["spots/S"] = structured((0,))
    problems = inspect(open_dataset(tmp_path / "data.h5"))["problems"]
    assert "no-spots" in {problem["kind"] for problem in problems}


@pytest.mark.parametrize("target", ["/spots/missing", "/spots"])
def test_dangling_and_cyclic_links_are_one_clear_line(tmp_path: Path, target: str):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images/Train/S"] = np.zeros((9, 9, 3), np.uint8)
        file.create_group("spots/Train")
        file["spots/Train/S"] = h5py.SoftLink(target)
    with pytest.raises(HistoboostError, match=f"^{tmp_path}.*$"):
        read_all(tmp_path / "data.h5")


def test_deep_json_is_one_clear_line(write_outs):
    sample = write_outs()
    file = sample / "outs" / "spatial" / "scalefactors_json.json"
    file.write_text("[" * 200_000)
    with pytest.raises(HistoboostError, match="is not valid JSON"):
        open_dataset(sample)


def test_an_embedding_store_instead_of_slides_is_refused(tmp_path: Path, source):
    EmbeddingStore(tmp_path / "store.zarr").write_spots(source.spot_table())
    with pytest.raises(HistoboostError, match="is an embedding store, not slides; give the data"):
        open_dataset(tmp_path / "store.zarr")
