"""Tables as people save them: read as intended, or refused in one line."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers.abundances import read_abundances
from histoboost.slides.tables import read_table, read_text_table

EXPECTED = pd.DataFrame({"A": [1.5, 2.0], "B": [0.25, 3.0]}, index=["007", "7"])


def write(tmp_path: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (tmp_path / name).write_bytes(text.encode(encoding))
    return tmp_path / name


def check(table: pd.DataFrame) -> None:
    np.testing.assert_array_equal(table.to_numpy(), EXPECTED.to_numpy().astype("f4"))
    assert list(table.index) == ["007", "7"]
    assert list(table.columns) == ["A", "B"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "spot,A,B\n007,1.5,.25\n7,2,3\n"),
        ("t.csv", "spot;A;B\n007;1.5;.25\n7;2;3\n"),
        ("t.csv", "spot;A;B\n007;1,5;0,25\n7;2;3,0\n"),
        ("t.csv", 'spot,A,B\n007,"1,5","0,25"\n7,"2,0",3\n'),
        ("t.csv", "spot\tA\tB\n007\t1.5\t.25\n7\t2\t3\n"),
        ("t.tsv", "spot\tA\tB\n007\t1,5\t0,25\n7\t2\t3\n"),
        ("t.tsv", "spot,A,B\n007,1.5,.25\n7,2,3\n"),
        ("t.csv", ",spot,A,B\n0,007,1.5,.25\n1,7,2,3\n"),
        ("t.csv", "A,id,B\n1.5,007,.25\n2,7,3\n"),
        ("t.csv", "A,B\n007,1.5,.25\n7,2,3\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.filterwarnings("ignore:.*not a cell type")
def test_separators_decimals_ids_and_encodings_are_read_as_meant(tmp_path, name, text, encoding):
    check(read_abundances(write(tmp_path, text, name, encoding)))


@pytest.mark.parametrize(
    ("table", "index"),
    [
        (EXPECTED, True),
        (EXPECTED.rename_axis("spot"), True),
        (EXPECTED.reset_index(names="spot"), False),
        (EXPECTED.reset_index(names="spot")[["A", "spot", "B"]], False),
        (EXPECTED.reset_index(names="cell")[["A", "cell", "B"]], False),
    ],
)
def test_a_parquet_file_is_joined_by_id_wherever_the_ids_stand(tmp_path, table, index):
    pytest.importorskip("pyarrow")
    table.to_parquet(tmp_path / "t.parquet", index=index)
    check(read_abundances(tmp_path / "t.parquet"))


@pytest.mark.parametrize("where", ["index", "column"])
def test_ids_that_are_integers_are_never_row_numbers(tmp_path, where):
    pytest.importorskip("pyarrow")
    table = EXPECTED.set_axis(pd.Index([70, 7], name="spot"))
    if where == "column":
        table = table.reset_index()
    table.to_parquet(tmp_path / "t.parquet")
    found = read_abundances(tmp_path / "t.parquet")
    assert list(found.index) == ["70", "7"]
    assert list(found.columns) == ["A", "B"]


def test_a_parquet_file_without_ids_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    EXPECTED.reset_index(drop=True).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(HistoboostError, match="no column of spot ids; call it spot"):
        read_abundances(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("spot;A\na;1,234\nb;2,345\n", "utf-8", "'1,234' .* may be a fraction or thousands"),
        ("spot;A\na;1,5\nb;2.5\n", "utf-8", "column 'A' is not numeric"),
        ("spot;A\na;1.234,5\nb;2\n", "utf-8", "column 'A' is not numeric"),
        ("spot,A,A\na,1,2\n", "utf-8", "column 'A' comes twice"),
        ("spot,caf\xe9\na,1\n", "cp1252", "line 1 is not UTF-8; save the file as UTF-8"),
        ("spot,A\na,1\n", "utf-16-le", "UTF-16 without a mark"),
        ("", "utf-8", "is empty; give a table with a header"),
        ("spot,A\na,1,2\nb,1\n", "utf-8", "cannot be read as a table|column"),
        ('spot,A\n"a,1\n', "utf-8", "cannot be read as a table|no abundances|not numeric|empty"),
    ],
)
def test_a_table_in_doubt_is_refused_in_one_line(tmp_path, text, encoding, message):
    path = write(tmp_path, text, encoding=encoding)
    with pytest.raises(HistoboostError, match=f"{path}: .*({message})"):
        read_abundances(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_texts_are_read_with_any_separator(tmp_path, encoding):
    path = write(tmp_path, "slide;group\nS_1; M\xfcller \n", encoding=encoding)
    assert read_text_table(path).to_dict("records") == [{"slide": "S_1", "group": "M\xfcller"}]


@pytest.mark.parametrize(
    "column",
    ["index", "x", "in_tissue", "array_row", "total_counts", "nCount_Spatial", "_index", "", "ID"],
)
def test_columns_that_are_no_cell_types_are_left_out_with_a_warning(tmp_path, column):
    path = write(tmp_path, f"spot,A,{column}\na,1,2\n")
    with pytest.warns(HistoboostWarning, match="not a cell type"):
        assert list(read_abundances(path).columns) == ["A"]


def test_utf16_is_recognised_by_its_mark_only(tmp_path):
    (tmp_path / "t.csv").write_bytes(codecs.BOM_UTF16_BE + "spot,A\na,1\n".encode("utf-16-be"))
    assert read_table(tmp_path / "t.csv").iloc[0, 0] == "a"
