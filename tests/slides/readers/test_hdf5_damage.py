"""HDF5 files whose damage would crash or hang the process are refused in one line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from histoboost import hdf5_file, hdf5_probe
from histoboost.errors import HistoboostError
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.readers import open_dataset

#: Part of HDF5's description of float32, which ends in the bias of its exponent, 127.
FLOAT32 = bytes([0, 0, 32, 0, 23, 8, 0, 23, 127])
#: Start of the description of a text of variable length: class, kind (1 is text), ...
TEXT = bytes([0x19, 1, 1, 0, 16, 0, 0, 0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = np.zeros(4, [("x", "f4"), ("y", "f4"), ("A", "f4"), ("B", "f4")])
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images/S"] = np.zeros((9, 9, 3), np.uint8)
        file["spots/S"] = table
    return tmp_path / "data.h5"


def with_text(path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        file["spots"].attrs["made by"] = "nobody"
        file["notes"] = ["one", "two"]
    return path


def replace(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def test_a_table_whose_columns_would_overlap_is_refused(path: Path) -> None:
    assert len(open_dataset(path)["S"].xy) == 4
    replace(path, FLOAT32, FLOAT32[:-1] + bytes([176]))  # float64 would be needed to hold it
    with pytest.raises(HistoboostError, match=r"data\.h5: spots/S has a damaged type; copy"):
        open_dataset(path)


def test_a_text_of_an_unknown_type_is_refused(path: Path) -> None:
    open_hdf5(with_text(path)).close()
    replace(path, TEXT, bytes([0x19, 6, *TEXT[2:]]))
    with pytest.raises(HistoboostError, match=r"data\.h5: \w+ has a damaged type; copy"):
        open_dataset(path)


def test_a_heap_that_hangs_libhdf5_is_refused_after_a_timeout(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hdf5_probe, "PATIENCE", 3.0)
    data = bytearray(with_text(path).read_bytes())
    first = data.index(b"GCOL") + 16
    data[first : first + 16] = bytes(16)  # the first text becomes free space of size 0
    path.write_bytes(data)
    with pytest.raises(HistoboostError, match=r"is unreadable, libhdf5 crashes or hangs on it"):
        open_dataset(path)
    assert hdf5_probe.probe(with_text(whole(path))) is None  # another process does the next


def whole(path: Path) -> Path:
    """Replace the file with an intact one."""
    with h5py.File(path, "w") as file:
        file.create_group("spots")
    return path


def test_a_file_is_checked_again_only_where_it_has_changed(path: Path, monkeypatch) -> None:
    checked = []
    monkeypatch.setattr(hdf5_file, "_check", lambda *_: checked.append(1))
    for _ in range(2):
        open_hdf5(path).close()
    assert len(checked) == 1
    with_text(path)
    open_hdf5(path).close()
    assert len(checked) == 2
