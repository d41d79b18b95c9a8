"""Visium HD: one section in several bin sizes is one slide, named after its sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from histoboost.errors import HistoboostError
from histoboost.slides.readers import open_dataset

pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")


@pytest.fixture
def write_hd(write_outs: Callable[..., Path]) -> Callable[[str], Path]:
    """Write a sample of two bin sizes, here with the same spots."""

    def write(sample: str = "P_1") -> Path:
        folder = write_outs("tissue_positions.parquet", sample=sample)
        outs = folder / "outs"
        for size in ("square_002um", "square_016um"):
            for part in ("spatial", "abundances.csv"):
                target = outs / "binned_outputs" / size / part
                target.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (outs / part).is_dir() else shutil.copy
                copy(outs / part, target)
        shutil.rmtree(outs / "spatial")
        (outs / "abundances.csv").unlink()
        return folder

    return write


@pytest.mark.parametrize("inner", ["", "outs", "outs/binned_outputs"])
def test_several_bin_sizes_are_never_several_slides(write_hd, same_slide, inner):
    path = write_hd("P_1") / inner
    with pytest.raises(HistoboostError, match="Visium HD; choose one of 2um, 16um with --bin"):
        open_dataset(path)
    for bin in ("16um", "016um", "square_016um"):
        (slide,) = open_dataset(path, f"spaceranger:{bin}").slides
        assert slide.name == "P_1"
        same_slide(slide)
    with pytest.raises(HistoboostError, match="has no bins of 8um; choose one of 2um, 16um"):
        open_dataset(path, "spaceranger:8um")


@pytest.mark.parametrize("inner", ["square_016um", "square_016um/spatial"])
def test_one_bin_size_may_be_given_and_is_named_after_its_sample(write_hd, same_slide, inner):
    path = write_hd("P_1") / "outs" / "binned_outputs" / inner
    (slide,) = open_dataset(path).slides
    assert slide.name == "P_1"
    same_slide(slide)


def test_a_folder_of_samples_is_read_in_one_bin_size(write_hd):
    folder = write_hd("P_1").parent
    write_hd("P_2")
    slides = open_dataset(folder, "spaceranger:2um").slides
    assert [slide.name for slide in slides] == ["P_1", "P_2"]


def test_a_manifest_may_name_one_bin_size(write_hd, same_slide, tmp_path):
    write_hd("P_1")
    spots = "P_1/outs/binned_outputs/square_016um"
    row = f"A,{spots},{spots}/abundances.csv\n"
    (tmp_path / "slides.csv").write_text("slide,spots,abundances\n" + row)
    (slide,) = open_dataset(tmp_path / "slides.csv").slides
    same_slide(slide)
    (tmp_path / "slides.csv").write_text("slide,spots\nA,P_1/outs\n")
    with pytest.raises(HistoboostError, match="choose one of 2um, 16um"):
        open_dataset(tmp_path / "slides.csv")


@pytest.mark.parametrize("inner", ["", "/spatial/tissue_positions.parquet"])
def test_two_bin_sizes_of_one_section_are_not_two_slides_of_a_manifest(write_hd, tmp_path, inner):
    for sample in ("P_1", "P_2"):
        write_hd(sample)

    def row(sample: str, size: str) -> str:
        spots = f"{sample}/outs/binned_outputs/square_{size}{inner}"
        image = f"{sample}/outs/binned_outputs/square_002um/spatial/tissue_hires_image.png"
        return f"{sample}_{size},{image},{spots}\n"

    manifest = tmp_path / "slides.csv"
    manifest.write_text("slide,image,spots\n" + row("P_1", "002um") + row("P_2", "016um"))
    assert len(open_dataset(manifest).slides) == 2
    manifest.write_text("slide,image,spots\n" + row("P_1", "002um") + row("P_1", "016um"))
    said = "P_1_002um and P_1_016um are one section of Visium HD, .*; keep one bin size"
    with pytest.raises(HistoboostError, match=said):
        open_dataset(manifest)


def test_the_command_line_chooses_with_bin(write_hd, phantom_h5, run, succeeds):
    sample = write_hd("P_1")
    assert "P_1" in succeeds("inspect", sample, "--bin", "16um").output
    for arguments in ([sample], [phantom_h5, "--format", "hdf5", "--bin", "16um"]):
        assert run("inspect", *arguments).exit_code == 2


def test_plain_visium_has_no_bins_and_its_spatial_folder_is_enough(write_outs, same_slide):
    sample = write_outs()
    with pytest.raises(HistoboostError, match="has no bins of 8um; omit --bin"):
        open_dataset(sample, "spaceranger:8um")
    (slide,) = open_dataset(sample / "outs" / "spatial").slides
    assert slide.name == "P_1"
    same_slide(slide)
