"""Manifests: what a row may name, and errors in one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoboost.errors import HistoboostError
from histoboost.slides.readers import open_dataset

HEADER = "slide,image,spots,abundances,group,um_per_px\n"


@pytest.fixture
def folder(tmp_path: Path, source, pixels: np.ndarray, abundances: pd.DataFrame) -> Path:
    """A manifest of one slide: PNG, spots and abundances."""
    Image.fromarray(pixels).save(tmp_path / "he.png")
    spots = pd.DataFrame({"spot": source.spot_ids, "x": source.xy[:, 0], "y": source.xy[:, 1]})
    spots.to_csv(tmp_path / "spots.csv", index=False)
    abundances.to_csv(tmp_path / "weights.tsv", sep="\t")
    (tmp_path / "slides.csv").write_text(
        HEADER + f"P_1,he.png,spots.csv,weights.tsv,mouse 1,{source.um_per_px}\n"
    )
    return tmp_path


def manifest(folder: Path, row: str, header: str = HEADER) -> Path:
    (folder / "slides.csv").write_text(header + row + "\n")
    return folder / "slides.csv"


def test_the_slide_is_read_back(folder: Path, same_slide):
    (slide,) = open_dataset(folder / "slides.csv").slides
    assert (slide.name, slide.group, slide.split) == ("P_1", "mouse 1", None)
    same_slide(slide)


def test_an_empty_cell_is_unknown_and_a_split_is_kept(folder: Path):
    header = "slide,image,spots,split\n"
    (slide,) = open_dataset(manifest(folder, "P_1,he.png,spots.csv,Test", header)).slides
    assert (slide.group, slide.um_per_px, slide.split) == (None, None, "Test")
    assert not slide.labelled


def test_the_table_of_spots_may_hold_the_abundances(folder: Path, abundances, same_slide):
    spots = pd.read_csv(folder / "spots.csv", index_col="spot")
    spots.join(abundances).to_csv(folder / "all.csv")
    (slide,) = open_dataset(manifest(folder, "P_1,he.png,all.csv,all.csv,,")).slides
    same_slide(slide, um=False)


def test_ids_that_look_like_numbers_stay_text(folder: Path):
    (folder / "spots.csv").write_text("x,y,id\n5,6,007\n7,8,010\n")
    (folder / "w.csv").write_text("id,A\n010,2\n007,1\n")
    (slide,) = open_dataset(manifest(folder, "P_1,he.png,spots.csv,w.csv,,")).slides
    assert slide.spot_ids == ("007", "010")
    assert slide.abundance.tolist() == [[1.0], [2.0]]


def test_spots_may_be_space_rangers(folder: Path, write_outs, abundances, pixels, same_slide):
    write_outs(table=None)
    Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), np.uint8))).save(folder / "full.png")
    outs = open_dataset(manifest(folder, "P_1,,P_1/outs,weights.tsv,,")).slides[0]
    same_slide(outs)
    row = "P_1,full.png,P_1/outs/spatial/tissue_positions.csv,weights.tsv,,"
    by_file = open_dataset(manifest(folder, row)).slides[0]
    by_folder = open_dataset(manifest(folder, "P_1,full.png,P_1/outs,weights.tsv,,")).slides[0]
    for slide in (by_file, by_folder):
        np.testing.assert_allclose(slide.xy, outs.xy * 4)
        assert slide.um_per_px == pytest.approx(outs.um_per_px / 4)


def test_spots_may_be_an_anndata_whose_abundances_are_named(folder: Path, make_anndata, same_slide):
    adata = make_anndata()
    adata.obsm["niches"] = adata.obsm["cell_types"] * 2
    table = adata.obsm["cell_types"].add_prefix("w_")
    adata.obs[table.columns] = table
    adata.write_h5ad(folder / "slide.h5ad")
    (slide,) = open_dataset(manifest(folder, "P_1,,slide.h5ad,obsm/cell_types,,")).slides
    same_slide(slide)
    (slide,) = open_dataset(manifest(folder, "P_1,,slide.h5ad,obs/w_*,,")).slides
    assert slide.cell_types[0] == "w_C1"
    (slide,) = open_dataset(manifest(folder, "P_1,,slide.h5ad,weights.tsv,,")).slides
    same_slide(slide)
    with pytest.raises(HistoboostError, match="there are obsm/cell_types"):
        open_dataset(manifest(folder, "P_1,,slide.h5ad,obsm/absent,,"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("P_1,,,,,", "columns 'spots' and 'image' are empty"),
        ("P_1,he.png,,weights.csv,,", "column 'abundances' needs 'spots', which is empty"),
        ("P_1,,spots.csv,,,", "column 'image' is empty"),
        ("P_1,absent.png,spots.csv,,,", "absent.png: no such image"),
        ("P_1,he.png,absent.csv,,,", "absent.csv: no such spots"),
        ("P_1,he.png,spots.csv,absent.csv,,", "absent.csv: no such file"),
        ("P_1,he.png,spots.csv,,,0", "um_per_px is '0'; give micrometres"),
        ("P_1,he.png,spots.csv,,,half", "um_per_px is 'half'"),
        ("P_1,slides.csv,spots.csv,,,", "an image of unknown format '.csv'"),
        ("P_1,he.png,he.png,,,", "a table of unknown format '.png'"),
        ("P_1,he.png,weights.tsv,,,", "no column 'x'"),
        ("P_1,he.png,nan.csv,,,", "column 'y' has values that are missing"),
        ("P_1,he.png,twice.csv,,,", "spot 'a' comes more than once"),
        ("P_1,he.png,bare.csv,,,", "no column of spot ids"),
        ("P_1,he.png,spots.csv,other.csv,,", "none of the 1 ids is that of a spot"),
        ("P_1,text.png,spots.csv,,,", "text.png: cannot be read as an image"),
        ("P_1,grey.png,spots.csv,,,", "mode L; save it as 8-bit RGB"),
    ],
)
def test_a_wrong_row_is_one_clear_line(folder: Path, row: str, message: str):
    (folder / "nan.csv").write_text("spot,x,y\na,1,2\nb,1,\n")
    (folder / "twice.csv").write_text("spot,x,y\na,1,2\na,1,3\n")
    (folder / "bare.csv").write_text("x,y\n1,2\n")
    (folder / "other.csv").write_text("spot,A\nzzz,1\n")
    (folder / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "grey.png")
    with pytest.raises(HistoboostError, match=f"^{folder / 'slides.csv'}: slide P_1: .*{message}"):
        open_dataset(manifest(folder, row))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("slide,group\n", "no column 'spots'"),
        ("name,image,spots\n", "no column 'slide'"),
        ("slide,image,spots,weights\n", "column 'weights' is unknown"),
    ],
)
def test_a_wrong_header_is_one_clear_line(folder: Path, header: str, message: str):
    with pytest.raises(HistoboostError, match=message):
        open_dataset(manifest(folder, "P_1,he.png,spots.csv", header))


def test_a_manifest_without_rows_holds_no_slides(folder: Path):
    with pytest.raises(HistoboostError, match="holds no slides"):
        open_dataset(manifest(folder, ""))


def test_a_slide_is_named_once_in_an_error(folder: Path):
    (folder / "other.csv").write_text("spot,C1\nz,1\n")
    with pytest.raises(HistoboostError, match="slide P_1: other.csv: none of the 1 ids"):
        open_dataset(manifest(folder, "P_1,he.png,spots.csv,other.csv,,")).slides[0]
