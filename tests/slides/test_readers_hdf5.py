"""The challenge's HDF5 file: what is read, and errors in one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset

Write = Callable[..., Path]


def table(n: int = 5, columns: tuple[str, ...] = ("x", "y", "C1", "C2"), dtype: str = "f8"):
    spots = np.zeros(n, [(name, dtype) for name in columns])
    for offset, name in enumerate(columns):
        spots[name] = np.arange(n) + 10 * offset
    return spots


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of these datasets."""

    def write_file(**options: object) -> Path:
        datasets = {
            "images/Train/S_1": np.zeros((40, 50, 3), np.uint8),
            "spots/Train/S_1": table(),
            **options,
        }
        path = tmp_path / "data.h5"
        with h5py.File(path, "w") as file:
            for name, array in datasets.items():
                if array is not None:
                    file.create_dataset(name, data=array)
        return path

    return write_file


def test_train_slides_come_before_test_slides_and_s_2_before_s_10(write: Write):
    image = np.zeros((40, 50, 3), np.uint8)
    extra = {"images/Train/S_2": image, "spots/Train/S_2": table()}
    extra |= {"images/Train/S_10": image, "spots/Train/S_10": table()}
    extra |= {"images/Test/S_0": image, "spots/Test/S_0": table(columns=("x", "y", "Test_Set"))}
    slides = open_dataset(write(**extra)).slides
    assert [slide.name for slide in slides] == ["S_1", "S_2", "S_10", "S_0"]
    assert [slide.split for slide in slides] == ["Train"] * 3 + ["Test"]


def test_test_set_is_not_a_cell_type_and_rows_keep_their_order(write: Write):
    spots = table(columns=("x", "y", "Test_Set"), dtype="i8")
    spots["x"] = [3, 1, 4, 1, 5]
    slide = open_dataset(write(**{"spots/Train/S_1": spots})).slides[0]
    assert (slide.labelled, slide.cell_types) == (False, ())
    assert slide.xy[:, 0].tolist() == [3, 1, 4, 1, 5]
    assert slide.spot_ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_abundances_come_out_as_float32(write: Write, dtype: str):
    slide = open_dataset(write(**{"spots/Train/S_1": table(dtype=dtype)})).slides[0]
    assert slide.abundance is not None
    assert slide.abundance.dtype == np.float32
    assert slide.cell_types == ("C1", "C2")
    np.testing.assert_array_equal(slide.abundance[:, 1], np.arange(5) + 30)


def test_slides_without_a_split_are_read(write: Write):
    nothing = {"images/Train/S_1": None, "spots/Train/S_1": None}
    flat = {"images/A": np.zeros((9, 9, 3), np.uint8), "spots/A": table()}
    slide = open_dataset(write(**nothing, **flat)).slides[0]
    assert (slide.name, slide.split) == ("A", None)


def test_an_image_without_spots_is_left_out_with_a_warning(write: Write):
    path = write(**{"images/Train/S_9": np.zeros((4, 4, 3), np.uint8)})
    with pytest.warns(HistoboostWarning, match="S_9 has no spot table"):
        assert len(open_dataset(path).slides) == 1


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"spots/Train/S_1": None}, "no 'spots' group"),
        ({"images/Train/S_1": None}, "no 'images' group"),
        ({"spots/Train/S_1": table(columns=("y", "C1"))}, "no column 'x'"),
        ({"spots/Train/S_1": table(columns=("x", "C1"))}, "no column 'y'"),
        ({"spots/Train/S_1": np.zeros((5, 4))}, "no column 'x'"),
        ({"spots/Train/S_2": table()}, "S_2 has no image"),
        ({"images/Train/S_1": np.zeros((40, 50), np.uint8)}, r"shape \(40, 50\)"),
        ({"images/Train/S_1": np.zeros((40, 50, 5), np.uint8)}, r"must be \(H, W, 3\)"),
        ({"images/Train/S_1": np.zeros((40, 50, 3), np.uint16)}, "type uint16"),
        (
            {"spots/Train/S_1": np.zeros(5, [("x", "f8"), ("y", "f8"), ("barcode", "S9")])},
            "'barcode' is not numeric",
        ),
        (
            {
                "images/Train/S_2": np.zeros((40, 50, 3), np.uint8),
                "spots/Train/S_2": table(columns=("x", "y", "C1", "C3")),
            },
            "other cell types",
        ),
        (
            {
                "images/Test/S_1": np.zeros((40, 50, 3), np.uint8),
                "spots/Test/S_1": table(columns=("x", "y")),
            },
            "two slides are called 'S_1'",
        ),
    ],
)
def test_a_malformed_file_is_one_clear_line(write: Write, datasets: dict, message: str):
    with pytest.raises(HistoboostError, match=f"data.h5: .*{message}"):
        open_dataset(write(**datasets))


@pytest.mark.parametrize("format", ["spaceranger", "images", "anndata", "manifest", "spatialdata"])
def test_a_file_of_another_format_than_requested_says_which(tmp_path: Path, format: str):
    with h5py.File(tmp_path / "data.h5", "w"):
        pass
    message = f"data.h5: its format is hdf5, not {format}; omit --format"
    with pytest.raises(HistoboostError, match=message):
        open_dataset(tmp_path / "data.h5", format)


def test_a_file_has_no_bins(tmp_path: Path):
    (tmp_path / "data.h5").touch()
    with pytest.raises(HistoboostError, match="--bin 8um: is for Visium HD folders, .*; omit it"):
        open_dataset(tmp_path / "data.h5", "spaceranger:8um")


@pytest.mark.parametrize("format", [None, "images", "spaceranger:8um"])
def test_an_empty_folder_is_called_empty(tmp_path: Path, format: str | None):
    with pytest.raises(HistoboostError, match="is an empty folder; give one with slides"):
        open_dataset(tmp_path, format)


def test_a_missing_file_and_one_of_no_known_format_say_so(tmp_path: Path):
    with pytest.raises(HistoboostError, match="notes.txt: no such file"):
        open_dataset(tmp_path / "notes.txt")
    (tmp_path / "notes.txt").write_text("x,y\n1,2\n")
    with pytest.raises(HistoboostError, match="notes.txt: a file in none of the formats"):
        open_dataset(tmp_path / "notes.txt")


def test_a_truncated_file_says_so(write: Write):
    path = write()
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(HistoboostError, match="cannot be read as HDF5"):
        open_dataset(path)


def test_a_format_may_be_named(write: Write):
    assert len(open_dataset(write(), format="hdf5").slides) == 1
    with pytest.raises(HistoboostError, match="format 'tiff2': unknown; known are .*hdf5"):
        open_dataset(write(), format="tiff2")


@pytest.mark.real
def test_the_real_sections_are_read(shared: Path):
    mob = open_dataset(shared / "data" / "mob.h5")
    assert [len(slide.xy) for slide in mob.slides] == [379, 407, 438, 403]
    assert mob["MOB4"].abundance is None
    her2st = open_dataset(shared / "data" / "her2st.h5")
    assert len(her2st.cell_types) == 41
    assert her2st["S_7"].image.read_rows(0, 10).max() > 100
