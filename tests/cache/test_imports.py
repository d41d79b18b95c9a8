"""Arrays of other programs are imported completely or refused by file name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoboost.cache.imports import read_arrays
from histoboost.errors import HistoboostError


def test_each_slide_gets_its_own_rows(tmp_path: Path, table: Any, rows: Any) -> None:
    for seed, slide in enumerate(("S_1", "S_2")):
        np.save(tmp_path / f"{slide}.npy", rows(5, 3, seed))
    found = read_arrays(tmp_path, {slide: table(slide, 5) for slide in ("S_2", "S_1")})
    np.testing.assert_array_equal(found["S_1"][0], rows(5, 3, 0))
    np.testing.assert_array_equal(found["S_2"][0], rows(5, 3, 1))


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.zeros((4, 3)), "has shape (4, 3), not (5, 3)"),
        (np.zeros(5), "has shape (5,)"),
        (np.zeros((5, 0)), "has shape (5, 0)"),
        (np.full((5, 3), "a"), "not numbers"),
        (np.full((5, 3), None), "is not a NumPy array file"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_by_file_name(tmp_path, table, array, fault):
    np.save(tmp_path / "S_1.npy", array)
    with pytest.raises(HistoboostError) as refused:
        read_arrays(tmp_path, {"S_1": table("S_1", 5)})
    assert str(refused.value).startswith(f"{tmp_path / 'S_1.npy'}: ")
    assert fault in str(refused.value)


@pytest.mark.parametrize(
    ("value", "fault"), [(np.nan, "not finite; embed these spots again"), (1e6, "above 65504")]
)
def test_a_value_that_float16_cannot_hold_is_refused_by_its_row(tmp_path, table, value, fault):
    array = np.random.default_rng(0).random((5, 3))
    array[3, 1] = value
    np.save(tmp_path / "S_1.npy", array)
    own = table("S_1", 5)
    with pytest.raises(HistoboostError) as refused:
        read_arrays(tmp_path, {"S_1": own})
    assert f"1 of 5 rows (first: row 3 from 0, spot {own.spot_ids[3]}) have" in str(refused.value)
    assert fault in str(refused.value)


def test_a_file_of_no_slide_and_two_files_of_one_are_refused(tmp_path: Path, table: Any) -> None:
    np.save(tmp_path / "S_9.npy", np.zeros((5, 3)))
    with pytest.raises(HistoboostError, match=r"S_9\.npy: no slide 'S_9'; available: S_1"):
        read_arrays(tmp_path, {"S_1": table("S_1", 5)})
    (tmp_path / "S_9.h5").touch()
    with pytest.raises(HistoboostError, match="second file of slide S_9"):
        read_arrays(tmp_path, {"S_9": table("S_9", 5)})
