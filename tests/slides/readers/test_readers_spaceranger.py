"""Space Ranger's outs folder: what is read, and errors in one clear line."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset

Write = Callable[..., Path]


@pytest.mark.parametrize(
    "variant", ["tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet"]
)
@pytest.mark.parametrize("table", ["abundances.csv", "abundances.tsv", "abundances.parquet"])
def test_every_variant_is_read_back(write_outs, same_slide, variant, table):
    if "parquet" in variant + table:
        pytest.importorskip("pyarrow")
    (slide,) = open_dataset(write_outs(variant, table=table)).slides
    assert slide.name == "P_1"
    same_slide(slide)
    assert pickle.loads(pickle.dumps(slide)).spot_ids == slide.spot_ids


def test_the_path_may_be_outs_the_sample_or_a_folder_of_samples(write_outs: Write):
    sample = write_outs()
    write_outs(sample="P_2")
    assert [slide.name for slide in open_dataset(sample).slides] == ["P_1"]
    assert [slide.name for slide in open_dataset(sample / "outs").slides] == ["P_1"]
    assert [slide.name for slide in open_dataset(sample.parent).slides] == ["P_1", "P_2"]
    assert len(open_dataset(sample, format="spaceranger").slides) == 1


def test_positions_are_row_and_column_and_off_tissue_spots_are_left_out(write_outs: Write):
    sample = write_outs(table=None)
    file = sample / "outs" / "spatial" / "tissue_positions.csv"
    file.write_text(
        "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
        "A-1,1,0,0,40,80\nB-1,0,0,2,44,84\n"
    )
    with pytest.warns(HistoboostWarning, match="micrometres may be wrong"):
        (slide,) = open_dataset(sample).slides
    assert slide.spot_ids == ("A-1",)
    assert slide.xy.tolist() == [[20.0, 10.0]]
    assert not slide.labelled


@pytest.mark.parametrize("diameter_um", [65.0, 55.0])
def test_the_spot_pitch_decides_which_diameter_is_meant(write_outs, source, diameter_um):
    (slide,) = open_dataset(write_outs(diameter_um=diameter_um)).slides
    assert slide.um_per_px == pytest.approx(source.um_per_px, rel=1e-6)


def test_a_full_resolution_image_is_preferred_and_lies_under_the_spots(write_outs, source, pixels):
    sample = write_outs()
    full = np.kron(pixels, np.ones((4, 4, 1), np.uint8))
    Image.fromarray(full).save(sample / "outs" / "spatial" / "tissue_fullres_image.png")
    (slide,) = open_dataset(sample).slides
    assert slide.image.shape == full.shape[:2]
    assert slide.um_per_px == pytest.approx(source.um_per_px / 4, rel=1e-6)
    np.testing.assert_allclose(slide.xy, source.xy * 4)


def test_abundances_are_joined_by_barcode_and_what_does_not_match_is_counted(
    write_outs: Write, source, abundances: pd.DataFrame
):
    sample = write_outs()
    fewer = abundances.drop(index=list(source.spot_ids[:3]))
    fewer.loc["ELSE-1"] = 1.0
    fewer.to_csv(sample / "outs" / "abundances.csv")
    with pytest.warns(HistoboostWarning) as caught:
        (slide,) = open_dataset(sample).slides
    text = " | ".join(str(warning.message) for warning in caught)
    assert f"3 of {len(source.xy)} spots have no abundances and are left out" in text
    assert "1 of" in text
    assert "belong to no spot and are ignored (first: ELSE-1)" in text
    assert slide.spot_ids == source.spot_ids[3:]
    np.testing.assert_allclose(slide.abundance, source.abundance[3:], rtol=1e-6)


def test_cell2location_prefixes_and_r_tables_are_understood(write_outs, same_slide, abundances):
    sample = write_outs(table=None)
    file = sample / "outs" / "abundances.tsv"
    abundances.add_prefix("q05cell_abundance_w_sf_").to_csv(file, sep="\t")
    same_slide(open_dataset(sample).slides[0])
    # R's write.table(quote = TRUE): the header is one name short.
    lines = ["\t".join(f'"{name}"' for name in abundances.columns)]
    lines += [
        "\t".join([f'"{spot}"', *map(repr, row)])
        for spot, row in zip(abundances.index, abundances.to_numpy().tolist(), strict=True)
    ]
    file.write_text("\n".join(lines) + "\n")
    same_slide(open_dataset(sample).slides[0])


def table(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[str], str]:
    """Edit the text of a file as a data frame."""
    return lambda text: edit(pd.read_csv(io.StringIO(text), index_col=0)).to_csv()


def scales(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


POSITIONS, SCALES = "spatial/tissue_positions.csv", "spatial/scalefactors_json.json"
IMAGE, ABUNDANCES = "spatial/tissue_hires_image.png", "abundances.csv"

#: Message, file and an edit of its text; None deletes the file.
DAMAGES: list[tuple[str, str, Callable[[str], str] | None]] = [
    ("no spot positions", POSITIONS, None),
    ("scalefactors_json.json: no such file", SCALES, None),
    ("not valid JSON", SCALES, lambda text: text[:30]),
    ("no positive tissue_hires_scalef", SCALES, scales(tissue_hires_scalef=0)),
    ("must hold one number per name", SCALES, scales(tissue_hires_scalef="0.1")),
    (
        "no column 'pxl_col_in_fullres'",
        POSITIONS,
        lambda text: text.replace("pxl_col_in_fullres", "x"),
    ),
    (
        "column 'pxl_col_in_fullres' has values that are missing",
        POSITIONS,
        lambda text: text[: text.rindex(",") + 1],
    ),
    ("comes more than once", POSITIONS, lambda text: text + text.splitlines()[1] + "\n"),
    ("no spot lies on the tissue", POSITIONS, lambda text: text.replace("-1,1,", "-1,0,")),
    ("no image; expected tissue_hires_image.png", IMAGE, None),
    (
        "none of the .* ids is that of a spot; the table has 'x",
        ABUNDANCES,
        table(lambda found: found.set_axis(["x" + i for i in found.index])),
    ),
    ("column 'C2' is not numeric", ABUNDANCES, table(lambda found: found.assign(C2="many"))),
    (
        "column 'C2' has 1 empty values",
        ABUNDANCES,
        table(lambda found: found.assign(C2=[np.nan, *found["C2"].iloc[1:]])),
    ),
    (
        "comes more than once; give each spot one row",
        ABUNDANCES,
        table(lambda found: pd.concat([found, found.iloc[:1]])),
    ),
]


@pytest.mark.parametrize(("message", "file", "edit"), DAMAGES)
def test_damage_is_one_clear_line(write_outs: Write, message: str, file: str, edit):
    sample = write_outs()
    path = sample / "outs" / file
    path.unlink() if edit is None else path.write_text(edit(path.read_text()))
    with pytest.raises(HistoboostError, match=f"{sample}.*{message}"):
        open_dataset(sample)


def test_two_tables_of_abundances_are_refused(write_outs: Write):
    outs = write_outs() / "outs"
    shutil.copy(outs / "abundances.csv", outs / "abundances.tsv")
    with pytest.raises(HistoboostError, match="keep one of them"):
        open_dataset(outs)


def test_a_truncated_image_is_one_clear_line_when_read(write_outs: Write):
    sample = write_outs()
    file = sample / "outs" / "spatial" / "tissue_hires_image.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (slide,) = open_dataset(sample).slides
    with pytest.raises(HistoboostError, match="tissue_hires_image.png: cannot be read as an image"):
        slide.image.read_rows(0, slide.image.shape[0])


def test_another_folder_is_not_space_ranger_output(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HistoboostError, match="no Space Ranger output"):
        open_dataset(tmp_path, format="spaceranger")
