"""Names of slides, spots and cell types: normalised, and refused if ambiguous."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.align.table import read_table
from histoboost.slides.groups import with_groups
from histoboost.slides.readers import open_dataset

COMPOSED = "M\xfcller"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def write(folder: Path, format: str, columns: list[str], slide: str = "S") -> Path:
    """Write a slide of four spots, whose columns count up from 0, 1, 2, ..."""
    values = np.add.outer(np.arange(4), np.arange(len(columns)))
    if format == "hdf5":
        with h5py.File(folder / "data.h5", "w") as file:
            file[f"images/Train/{slide}"] = np.zeros((20, 20, 3), np.uint8)
            types = [(name, "f4") for name in columns]
            file[f"spots/Train/{slide}"] = np.array(list(map(tuple, values)), types)
        return folder / "data.h5"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "he.png")
    rows = [["spot", *columns], *([f"s{i}", *row] for i, row in enumerate(values))]
    (folder / "spots.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    text = f"slide,image,spots,abundances\n{slide},he.png,spots.csv,spots.csv\n"
    (folder / "slides.csv").write_text(text)
    return folder / "slides.csv"


FORMATS = pytest.mark.parametrize("format", ["hdf5", "manifest"])


@FORMATS
def test_index_and_counts_beside_spots_are_no_cell_types(tmp_path, format):
    path = write(tmp_path, format, ["x", "y", "A", "index", "in_tissue", "total_counts"])
    with pytest.warns(HistoboostWarning, match="left out index, in_tissue, total_counts, not a"):
        (slide,) = open_dataset(path).slides
    assert slide.cell_types == ("A",)


@FORMATS
@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["B", "B_lower"], "needs the column 'B_lower', which is that of 'B'"),
        (["B/T", "B_T"], "needs the column 'B_T', which is that of 'B/T'"),
        (["B\x1b[2J"], r"'B\\x1b\[2J' cannot be the name of a cell type"),
        (["=1+1"], "'=1\\+1' cannot be the name of a cell type"),
    ],
)
def test_cell_types_that_no_table_could_tell_apart_are_refused(tmp_path, format, types, message):
    if format == "hdf5" and "/" in types[0]:
        types = types[::-1]
        message = "needs the column 'B_T', which is that of 'B_T'"
    with pytest.raises(HistoboostError, match=message) as error:
        open_dataset(write(tmp_path, format, ["x", "y", *types]))
    assert "\x1b" not in str(error.value)


@FORMATS
def test_a_slide_name_with_a_terminal_escape_is_refused(tmp_path, format):
    with pytest.raises(HistoboostError, match="contains a control or unprintable") as error:
        open_dataset(write(tmp_path, format, ["x", "y", "A"], slide="S\x1b[2J"))
    assert "\x1b" not in str(error.value)


def test_a_spot_id_with_a_terminal_escape_is_refused(tmp_path):
    path = write(tmp_path, "manifest", ["x", "y", "A"])
    (tmp_path / "spots.csv").write_text("spot,x,y,A\ns\x1b[2J,1,2,3\n")
    with pytest.raises(HistoboostError, match="has unprintable characters") as error:
        open_dataset(path)
    assert "\x1b" not in str(error.value)


@FORMATS
def test_names_are_equal_however_their_accents_are_written(tmp_path, format):
    dataset = open_dataset(write(tmp_path, format, ["x", "y", "A"], slide=DECOMPOSED))
    assert [slide.name for slide in dataset.slides] == [COMPOSED]
    assert dataset[DECOMPOSED] is dataset[COMPOSED]
    (tmp_path / "groups.csv").write_text(f"slide,group\n{DECOMPOSED},p\n", encoding="utf-8")
    assert with_groups(dataset, tmp_path / "groups.csv").slides[0].group == "p"
    (tmp_path / "a.csv").write_text(f"slide,dx,dy,scale\n{DECOMPOSED},1,2,1\n", encoding="utf-8")
    assert list(read_table(tmp_path / "a.csv")) == [COMPOSED]


@FORMATS
def test_spots_with_an_empty_row_of_labels_are_left_out_with_a_warning(tmp_path, format):
    path = write(tmp_path, format, ["x", "y", "A", "B"])
    if format == "hdf5":
        with h5py.File(path, "r+") as file:
            table = file["spots/Train/S"][()]
            table["A"][1] = table["B"][1] = np.nan
            file["spots/Train/S"][...] = table
    else:
        lines = (tmp_path / "spots.csv").read_text().splitlines()
        lines[2] = "s1,1,2,,"
        (tmp_path / "spots.csv").write_text("\n".join(lines))
    with pytest.warns(HistoboostWarning, match="1 of 4 spots have no abundances and are left out"):
        (slide,) = open_dataset(path).slides
    assert [spot[-1] for spot in slide.spot_ids] == ["0", "2", "3"]
    assert slide.xy[:, 0].tolist() == [0, 2, 3]
    assert slide.abundance[:, 0].tolist() == [2, 4, 5]


@pytest.mark.parametrize("header", ["0,1,2,3,4,5\n", ""])
def test_positions_that_pandas_saved_again_have_no_spot_of_column_numbers(
    write_outs, source, header
):
    sample = write_outs("tissue_positions_list.csv", table=None)
    file = sample / "outs" / "spatial" / "tissue_positions_list.csv"
    file.write_text(header + file.read_text())
    (slide,) = open_dataset(sample).slides
    assert slide.spot_ids == source.spot_ids


@pytest.mark.parametrize("format", ["csv", "groups", "alignment"])
def test_a_table_in_another_encoding_is_one_clear_line(tmp_path, format):
    dataset = open_dataset(write(tmp_path, "manifest", ["x", "y", "A"]))
    text = {"csv": "slide,spots\n", "groups": "slide,group\n", "alignment": "slide,dx,dy,scale\n"}
    (tmp_path / "t.csv").write_bytes((text[format] + "M\xfcller,1,0,1\n").encode("cp1252"))
    read = {
        "csv": open_dataset,
        "groups": lambda path: with_groups(dataset, path),
        "alignment": read_table,
    }
    with pytest.raises(HistoboostError, match="line 2 is not UTF-8"):
        read[format](tmp_path / "t.csv")
