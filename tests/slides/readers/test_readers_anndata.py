"""AnnData files and stores: what is read, and the line that says what is wrong with them."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset

Make = Callable[..., anndata.AnnData]


def write(adata: anndata.AnnData, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zarr 2 is what people have
        adata.write_h5ad(path) if path.suffix == ".h5ad" else adata.write_zarr(path)
    return path


@pytest.mark.parametrize(
    ("suffix", "labels"),
    [(".h5ad", "obsm"), (".h5ad", "cell2location"), (".h5ad", "obs"), (".zarr", "obsm")],
)
def test_every_layout_gives_the_slide_back(
    tmp_path: Path, make_anndata: Make, same_slide: Callable, suffix: str, labels: str
):
    path = write(make_anndata(labels), tmp_path / f"slide{suffix}")
    (slide,) = open_dataset(path).slides
    assert slide.name == "P_1"
    same_slide(slide)
    same_slide(pickle.loads(pickle.dumps(slide)))


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_float_pixels_come_out_as_uint8(
    tmp_path: Path, make_anndata: Make, same_slide: Callable, suffix: str
):
    path = write(make_anndata(float_pixels=True), tmp_path / f"slide{suffix}")
    (slide,) = open_dataset(path).slides
    assert slide.image.source_dtype == "float32"
    same_slide(slide)


def test_without_abundances_the_slide_is_unlabelled(tmp_path: Path, make_anndata: Make):
    path = write(make_anndata(labels="none"), tmp_path / "slide.h5ad")
    (slide,) = open_dataset(path).slides
    assert not slide.labelled
    assert slide.cell_types == ()


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
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
    with pytest.raises(HistoboostError, match="add obs\\['library_id'\\]"):
        open_dataset(write(both, tmp_path / "unclear.h5ad"))


def test_spots_without_any_abundance_are_counted_and_left_out(tmp_path: Path, make_anndata: Make):
    adata = make_anndata()
    adata.obsm["cell_types"].iloc[:2] = np.nan
    path = write(adata, tmp_path / "slide.h5ad")
    with pytest.warns(HistoboostWarning, match="2 of .* spots have no abundances and are left out"):
        (slide,) = open_dataset(path).slides
    assert slide.spot_ids == tuple(adata.obs_names[2:-1])
    assert np.isfinite(slide.abundance).all()


def test_a_diameter_that_does_not_fit_the_lattice_gives_no_scale(
    tmp_path: Path, make_anndata: Make
):
    adata = make_anndata()
    adata.uns["spatial"]["P_1"]["scalefactors"]["spot_diameter_fullres"] = 1.0
    (slide,) = open_dataset(write(adata, tmp_path / "slide.h5ad")).slides
    assert slide.um_per_px is None


def without(adata: anndata.AnnData, room: str, key: str) -> anndata.AnnData:
    del getattr(adata, room)[key]
    return adata


def scalefactor(adata: anndata.AnnData, value: float) -> anndata.AnnData:
    adata.uns["spatial"]["P_1"]["scalefactors"]["tissue_hires_scalef"] = value
    return adata


def hires(adata: anndata.AnnData, image: np.ndarray | None) -> anndata.AnnData:
    images = adata.uns["spatial"]["P_1"]["images"]
    if image is None:
        del images["hires"]
    else:
        images["hires"] = image
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
    ("no hires image .there are: lowres", lambda adata: hires(adata, None)),
    ("no positive tissue_hires_scalef", lambda adata: scalefactor(adata, 0.0)),
    ("must be RGB|must be .H, W, 3.", lambda adata: hires(adata, np.zeros((9, 9), np.uint8))),
    ("may be in obsm of cell_types, niches", second_frame),
    ("column 'C2' has 1 empty values", gap),
    ("comes more than once", repeated),
]


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize(
    ("suffix", "message", "damage"),
    [(".h5ad", *damage) for damage in DAMAGES] + [(".zarr", *damage) for damage in DAMAGES[2:5]],
)
def test_damage_is_one_clear_line(
    tmp_path: Path, make_anndata: Make, suffix: str, message: str, damage: Callable
):
    path = write(damage(make_anndata()), tmp_path / f"slide{suffix}")
    with pytest.raises(HistoboostError, match=message) as error:
        open_dataset(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_one_clear_line(tmp_path: Path, make_anndata: Make):
    path = write(make_anndata(), tmp_path / "slide.h5ad")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(HistoboostError, match="write it again with anndata") as error:
        open_dataset(path)
    assert "\n" not in str(error.value)


def test_a_store_that_lost_a_folder_is_one_clear_line(tmp_path: Path, make_anndata: Make):
    path = write(make_anndata(), tmp_path / "slide.zarr")
    shutil.rmtree(path / "obs")
    with pytest.raises(HistoboostError, match="write it again with anndata") as error:
        open_dataset(path)
    assert "\n" not in str(error.value)
