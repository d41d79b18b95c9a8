"""AnnData files and stores: what is read, and errors in one clear line."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset

Make = Callable[..., anndata.AnnData]


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata")  # zarr 2, repeated names


def write(adata: anndata.AnnData, path: Path) -> Path:
    adata.write_h5ad(path) if path.suffix == ".h5ad" else adata.write_zarr(path)
    return path


def clear_line(path: Path, message: str) -> None:
    with pytest.raises(HistoboostError, match=f"{path}: .*{message}"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("suffix", "labels"),
    [(".h5ad", "obsm"), (".h5ad", "cell2location"), (".h5ad", "obs"), (".zarr", "obsm")],
)
def test_every_layout_is_read_back(tmp_path, make_anndata, same_slide, suffix, labels):
    path = write(make_anndata(labels), tmp_path / f"slide{suffix}")
    (slide,) = open_dataset(path).slides
    assert slide.name == "P_1"
    same_slide(slide)
    same_slide(pickle.loads(pickle.dumps(slide)))


def test_without_abundances_the_slide_is_unlabelled(tmp_path: Path, make_anndata: Make):
    (slide,) = open_dataset(write(make_anndata(labels="none"), tmp_path / "slide.h5ad")).slides
    assert not slide.labelled
    assert slide.cell_types == ()


def test_several_libraries_are_several_slides(tmp_path: Path, make_anndata: Make, same_slide):
    both = anndata.concat([make_anndata(), make_anndata()], keys=["P_1", "P_2"], label="library_id")
    spatial = make_anndata().uns["spatial"]["P_1"]
    both.uns["spatial"] = {"P_1": spatial, "P_2": spatial}
    path = write(both, tmp_path / "both.h5ad")
    slides = open_dataset(path).slides
    assert [slide.name for slide in slides] == ["P_1", "P_2"]
    for slide in slides:
        same_slide(slide)
    del both.obs["library_id"]
    clear_line(write(both, tmp_path / "unclear.h5ad"), r"add obs\['library_id'\]")


def test_spots_without_any_abundance_are_counted_and_left_out(tmp_path: Path, make_anndata: Make):
    adata = make_anndata()
    adata.obsm["cell_types"].iloc[:2] = np.nan
    path = write(adata, tmp_path / "slide.h5ad")
    with pytest.warns(HistoboostWarning, match="2 of .* spots have no abundances and are left out"):
        (slide,) = open_dataset(path).slides
    assert slide.spot_ids == tuple(adata.obs_names[2:-1])
    assert np.isfinite(slide.abundance).all()


def test_a_diameter_that_does_not_fit_the_lattice_gives_no_scale(tmp_path, make_anndata):
    adata = library(make_anndata(), "scalefactors", spot_diameter_fullres=1.0)
    (slide,) = open_dataset(write(adata, tmp_path / "slide.h5ad")).slides
    assert slide.um_per_px is None


def without(adata: anndata.AnnData, room: str, key: str) -> anndata.AnnData:
    del getattr(adata, room)[key]
    return adata


def library(adata: anndata.AnnData, part: str, **changes: object) -> anndata.AnnData:
    stored = adata.uns["spatial"]["P_1"][part]
    stored |= changes
    for key in [key for key, value in changes.items() if value is None]:
        del stored[key]
    return adata


def second_frame(adata: anndata.AnnData) -> anndata.AnnData:
    adata.obsm["niches"] = adata.obsm["cell_types"] * 2
    return adata


def gap(adata: anndata.AnnData) -> anndata.AnnData:
    adata.obsm["cell_types"].iloc[3, 1] = np.nan
    return adata


def repeated(adata: anndata.AnnData) -> anndata.AnnData:
    adata.obs_names = [adata.obs_names[0], *adata.obs_names[:1], *adata.obs_names[2:]]
    adata.obsm["cell_types"].index = adata.obs_names
    return adata


DAMAGES: list[tuple[str, Callable[[anndata.AnnData], anndata.AnnData]]] = [
    ("no coordinates; expected obsm", lambda adata: without(adata, "obsm", "spatial")),
    ("no image; expected uns", lambda adata: without(adata, "uns", "spatial")),
    ("no hires image .there are: lowres", lambda adata: library(adata, "images", hires=None)),
    (
        "no positive tissue_hires_scalef",
        lambda adata: library(adata, "scalefactors", tissue_hires_scalef=0.0),
    ),
    (
        "must be .H, W, 3.",
        lambda adata: library(adata, "images", hires=np.zeros((9, 9), np.uint8)),
    ),
    ("may be in obsm of cell_types, niches", second_frame),
    ("column 'C2' has 1 empty values", gap),
    ("comes more than once", repeated),
]


@pytest.mark.parametrize(
    ("suffix", "message", "damage"),
    [(".h5ad", *damage) for damage in DAMAGES] + [(".zarr", *damage) for damage in DAMAGES[2:5]],
)
def test_damage_is_one_clear_line(tmp_path, make_anndata, suffix, message, damage):
    clear_line(write(damage(make_anndata()), tmp_path / f"slide{suffix}"), message)


def test_a_file_cut_off_or_a_store_that_lost_a_folder_is_one_clear_line(tmp_path, make_anndata):
    path = write(make_anndata(), tmp_path / "slide.h5ad")
    path.write_bytes(path.read_bytes()[:3000])
    clear_line(path, "write it again with anndata")
    path = write(make_anndata(), tmp_path / "slide.zarr")
    shutil.rmtree(path / "obs")
    clear_line(path, "write it again with anndata")
