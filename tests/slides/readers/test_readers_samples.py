"""AnnData of several samples and unusual keys: spots go on an image only by a stated link."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from PIL import Image

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Slide

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata")

Make = Callable[..., anndata.AnnData]
HEADER = "slide,image,spots,abundances\n"


def write(adata: anndata.AnnData, folder: Path) -> Path:
    adata.write_h5ad(folder / "slide.h5ad")
    return folder / "slide.h5ad"


def in_pixels_of(source: Slide, slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    """Expected coordinates (full resolution) and abundances of a slide, in its order."""
    order = [source.spot_ids.index(spot.removesuffix(f"-{slide.name}")) for spot in slide.spot_ids]
    return source.xy[order] * 4, source.abundance[order]


@pytest.fixture
def both(make_anndata: Make) -> Callable[[str], anndata.AnnData]:
    """Two merged samples, of which only the first image was kept."""

    def make(column: str) -> anndata.AnnData:
        parts = {"A": make_anndata(), "B": make_anndata()}
        return anndata.concat(parts, label=column, uns_merge="first", index_unique="-")

    return make


@pytest.fixture
def full(tmp_path: Path, pixels: np.ndarray) -> Path:
    """The full-resolution image as a file."""
    Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), np.uint8))).save(tmp_path / "full.png")
    return tmp_path / "full.png"


@pytest.mark.parametrize("column", ["library_id", "sample", "batch"])
def test_one_image_of_two_samples_is_refused_by_the_names_of_both(tmp_path, both, column):
    with pytest.raises(HistoboostError, match=f"{column}.* names the samples A, B.*manifest"):
        open_dataset(write(both(column), tmp_path))


@pytest.mark.parametrize("column", ["library_id", "sample", "batch"])
def test_a_manifest_gives_each_sample_its_image(tmp_path, both, source, full, column):
    write(both(column), tmp_path)
    rows = "A,full.png,slide.h5ad,\nB,full.png,slide.h5ad,\n"
    (tmp_path / "slides.csv").write_text(HEADER + rows)
    for slide in open_dataset(tmp_path / "slides.csv").slides:
        assert sorted(slide.spot_ids) == sorted(f"{spot}-{slide.name}" for spot in source.spot_ids)
        np.testing.assert_allclose(slide.xy, in_pixels_of(source, slide)[0])
    (tmp_path / "slides.csv").write_text(HEADER + "C,full.png,slide.h5ad,\n")
    with pytest.raises(HistoboostError, match="has several slides and none is called 'C'"):
        open_dataset(tmp_path / "slides.csv")


def test_a_stated_library_id_puts_all_spots_on_one_image(tmp_path, both, source):
    adata = both("batch")
    adata.obs["library_id"] = "P_1"
    (slide,) = open_dataset(write(adata, tmp_path)).slides
    assert len(slide.xy) == 2 * len(source.xy)


def test_library_ids_may_be_integers_but_none_may_be_missing(tmp_path, both):
    adata = both("batch")
    spatial = adata.uns["spatial"]["P_1"]
    adata.uns["spatial"] = {"1": spatial, "2": spatial}
    adata.obs["library_id"] = [1] * (adata.n_obs // 2) + [2] * (adata.n_obs // 2)
    slides = open_dataset(write(adata, tmp_path)).slides
    assert [slide.name for slide in slides] == ["1", "2"]
    assert [{spot[-1] for spot in slide.spot_ids} for slide in slides] == [{"A"}, {"B"}]
    spot = adata.obs_names[3]
    adata.obs["library_id"] = adata.obs["library_id"].astype(str)
    adata.obs.loc[spot, "library_id"] = np.nan
    with pytest.raises(HistoboostError, match=rf"spot {spot} has no obs\['library_id'\]"):
        open_dataset(write(adata, tmp_path))
    adata.obs["library_id"] = ["1"] * 5 + ["3"] * (adata.n_obs - 5)
    with pytest.raises(HistoboostError, match="no image of 3 .there are: 1, 2"):
        open_dataset(write(adata, tmp_path))


def library(adata: anndata.AnnData) -> dict:
    return adata.uns["spatial"]["P_1"]


def hires_image(adata: anndata.AnnData) -> None:
    images = library(adata)["images"]
    images["hires_image"] = images.pop("hires")


def hest(adata: anndata.AnnData) -> None:
    images, factors = library(adata)["images"], library(adata)["scalefactors"]
    images["downscaled_fullres"] = images.pop("hires")
    factors["tissue_downscaled_fullres_scalef"] = factors.pop("tissue_hires_scalef")


def coordinates_as_frame(adata: anndata.AnnData) -> None:
    xy = pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=["x", "y"])
    adata.obsm["spatial"] = xy[["y", "x"]]


def sparse_abundances(adata: anndata.AnnData) -> None:
    table = adata.obsm.pop("cell_types")
    adata.obsm["abundance"] = sp.csr_matrix(table.to_numpy())
    adata.uns["cell_types"] = np.array(table.columns, dtype=str)


CHANGES = {
    "an id of another name": lambda adata: adata.obs.insert(0, "library_id", "0"),
    "CELLxGENE": lambda adata: adata.uns["spatial"].update(is_single=True),
    "text among the factors": lambda adata: library(adata)["scalefactors"].update(source="10x"),
    "hires_image": hires_image,
    "HEST": hest,
    "coordinates as a frame": coordinates_as_frame,
    "sparse abundances": sparse_abundances,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_other_tools_write_is_read(tmp_path, make_anndata, same_slide, change):
    adata = make_anndata()
    CHANGES[change](adata)
    (slide,) = open_dataset(write(adata, tmp_path)).slides
    same_slide(slide)


@pytest.mark.parametrize("remove", ["spatial", "spatial/P_1/images/hires"])
def test_the_message_of_a_missing_image_leads_to_a_manifest_that_works(
    tmp_path, make_anndata, source, full, remove
):
    adata = make_anndata()
    *parents, key = remove.split("/")
    reduce(getitem, parents, adata.uns).pop(key)
    with pytest.raises(HistoboostError, match="manifest: a .csv with the columns slide,image,sp"):
        open_dataset(write(adata, tmp_path))
    (tmp_path / "slides.csv").write_text("slide,image,spots\nP_1,full.png,slide.h5ad\n")
    (slide,) = open_dataset(tmp_path / "slides.csv").slides
    xy, abundance = in_pixels_of(source, slide)
    np.testing.assert_allclose(slide.xy, xy)
    np.testing.assert_allclose(slide.abundance, abundance, rtol=1e-6)


def test_a_bare_array_that_a_manifest_names_has_no_cell_types(tmp_path, make_anndata):
    write(make_anndata(), tmp_path)
    (tmp_path / "slides.csv").write_text(HEADER + "P_1,,slide.h5ad,obsm/X_pca\n")
    with pytest.raises(HistoboostError, match="has no cell type names; store a data frame"):
        open_dataset(tmp_path / "slides.csv")


def test_counts_among_the_columns_that_a_manifest_names_are_left_out(tmp_path, make_anndata):
    adata = make_anndata()
    adata.obs["total_counts"] = 1.0
    adata.obs["tumour"] = 2.0
    write(adata, tmp_path)
    (tmp_path / "slides.csv").write_text(HEADER + "P_1,,slide.h5ad,obs/t*\n")
    with pytest.warns(HistoboostWarning, match="left out total_counts, not a cell type"):
        (slide,) = open_dataset(tmp_path / "slides.csv").slides
    assert slide.cell_types == ("tumour",)


@pytest.mark.parametrize("group", ["", "p"])
def test_two_slides_on_one_image_without_a_group_give_a_warning(
    tmp_path, both, full, group, recwarn
):
    write(both("sample"), tmp_path)
    rows = "".join(f"{name},full.png,slide.h5ad,{group}\n" for name in "AB")
    (tmp_path / "slides.csv").write_text("slide,image,spots,group\n" + rows)
    open_dataset(tmp_path / "slides.csv")
    said = [str(one.message) for one in recwarn if one.category is HistoboostWarning]
    assert any("slides A and B share one image" in one for one in said) == (group == "")
