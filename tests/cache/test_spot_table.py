"""A spot table that cannot be right is refused before anything of it is stored."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from histoboost.cache.spot_files import encode_table
from histoboost.errors import HistoboostError

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"xy": np.zeros((5, 3))}, "coordinates have shape (5, 3), not (N, 2)"),
    ({"xy": np.zeros((0, 2)), "spot_ids": ()}, "has no spots"),
    ({"xy": np.full((5, 2), np.nan)}, "coordinates are not all finite"),
    ({"spot_ids": ("a", "b")}, "5 spots but 2 ids"),
    ({"spot_ids": ("a", "b", "c", "d", "a")}, "spot ids are not unique"),
    ({"cell_types": ("a", "b", "c", "a")}, "cell types are not unique"),
    ({"cell_types": ("a", "b")}, "abundances have shape (5, 4), not (5, 2)"),
    ({"abundance": np.full((5, 4), np.inf)}, "abundances are not all finite"),
]


@pytest.mark.parametrize(("changes", "fault"), WRONG, ids=[fault for _, fault in WRONG])
def test_a_faulty_spot_table_names_slide_and_fault(
    table: Any, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(HistoboostError) as refused:
        table("S_9", 5, **changes)
    assert str(refused.value) == f"slide S_9: {fault}; correct the source"


def test_a_table_is_written_without_a_note_of_anndata_in_any_thread(monkeypatch, table):
    # A filter would not do: another thread that leaves a `catch_warnings` takes it away.
    monkeypatch.setattr(warnings, "filterwarnings", lambda *args, **kwargs: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_table(table())
