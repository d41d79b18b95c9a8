"""One slide, every format: the embeddings are the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from histoboost.featurize import patches
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.slides.readers import FORMATS, open_dataset
from histoboost.slides.slide import Slide
from histoboost.slides.tile_cache import read_pixels
from histoboost.spots import window_starts

PATCH_PX = 20


@pytest.fixture(scope="module")
def net() -> Backbone:
    return load_backbone("mobilenet_v3_large", "random")


@pytest.fixture(scope="module")
def expected(source: Slide, net: Backbone) -> np.ndarray:
    """Embeddings of the slide as it lies in memory, (N, D)."""
    return embedded(source, source.xy, net)


def embedded(slide: Slide, xy: np.ndarray, net: Backbone) -> np.ndarray:
    """Embeddings around `xy`, (N, D) float32: the store would round them to float16."""
    image, _ = read_pixels(slide.image)
    starts = window_starts(xy, PATCH_PX)
    cut = torch.from_numpy(patches.crop(image, starts, PATCH_PX)).permute(0, 3, 1, 2)
    cut = patches.resize(cut, 64)
    with torch.inference_mode():
        return net.module(patches.normalise(cut, net.mean, net.std)).numpy()


@pytest.fixture
def write_format(
    tmp_path: Path,
    source: Slide,
    pixels: np.ndarray,
    abundances: pd.DataFrame,
    write_outs: Callable,
    make_anndata: Callable,
    request: pytest.FixtureRequest,
) -> Callable[[str], Path]:
    """Write the slide in a format and return its path."""

    def write_hdf5(path: Path, image: np.ndarray) -> Path:
        spots = pd.DataFrame(source.xy, columns=["x", "y"])
        spots = spots.join(pd.DataFrame(source.abundance, columns=source.cell_types))
        with h5py.File(path, "w") as file:
            file["images/Train/P_1"] = image
            file["spots/Train/P_1"] = spots.to_records(index=False)
        return path

    def write_manifest(image: str) -> Path:
        spots = pd.DataFrame({"spot": source.spot_ids, "x": source.xy[:, 0], "y": source.xy[:, 1]})
        spots.sample(frac=1, random_state=4).to_csv(tmp_path / "spots.csv", index=False)
        abundances.to_csv(tmp_path / "weights.csv")
        table = "slide,image,spots,abundances\nP_1," + image + ",spots.csv,weights.csv\n"
        (tmp_path / "slides.csv").write_text(table)
        return tmp_path / "slides.csv"

    def write_tiff(name: str, **options: object) -> Path:
        tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")
        if name.endswith(".svslide"):
            pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
        options = {"photometric": "rgb", "tile": (64, 64), "metadata": None, **options}
        tifffile.imwrite(tmp_path / name, pixels, **options)
        return write_manifest(name)

    def write_ome_zarr(version: int) -> Path:
        import zarr

        root = zarr.open_group(tmp_path / "he.zarr", mode="w", zarr_format=version)
        root.create_array("0", data=np.moveaxis(pixels, -1, 0), chunks=(1, 64, 64))
        scales = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}
        attributes = {"multiscales": [scales]}
        root.attrs.update({"ome": attributes} if version == 3 else attributes)
        return write_manifest("he.zarr")

    def write_png() -> Path:
        Image.fromarray(pixels).save(tmp_path / "he.png")
        return write_manifest("he.png")

    def write_anndata(name: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            write = getattr(make_anndata(), "write_" + name.rpartition(".")[2])
            write(tmp_path / name)
        return tmp_path / name

    def write_spatialdata() -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request.getfixturevalue("make_sdata")().write(tmp_path / "sdata.zarr")
        return tmp_path / "sdata.zarr"

    writers: dict[str, Callable[[], Path]] = {
        "hdf5 of uint8": lambda: write_hdf5(tmp_path / "u.h5", pixels),
        "hdf5 of float32": lambda: write_hdf5(tmp_path / "f.h5", pixels.astype("f4") / 255),
        "spaceranger": write_outs,
        "anndata in h5ad": lambda: write_anndata("adata.h5ad"),
        "anndata in zarr": lambda: write_anndata("adata.zarr"),
        "spatialdata": write_spatialdata,
        "manifest of png": write_png,
        "manifest of tiff": lambda: write_tiff("he.tif", compression="zlib"),
        "manifest of svs": lambda: write_tiff("he.svs", description="Aperio Image|MPP = 0.5"),
        "manifest of openslide": lambda: write_tiff("he.svslide", compression="zlib"),
        "manifest of ome-tiff": lambda: write_tiff("he.ome.tif", metadata={"axes": "YXS"}),
        "manifest of ome-zarr 2": lambda: write_ome_zarr(2),
        "manifest of ome-zarr 3": lambda: write_ome_zarr(3),
    }
    return lambda name: writers[name]()


WRITTEN = [
    *("hdf5 of uint8", "hdf5 of float32", "spaceranger", "anndata in h5ad", "anndata in zarr"),
    *("spatialdata", "manifest of png", "manifest of tiff", "manifest of svs"),
    *("manifest of openslide", "manifest of ome-tiff"),
    *("manifest of ome-zarr 2", "manifest of ome-zarr 3"),
]


def test_every_format_is_covered():
    # Plain images have no spots to agree on.
    assert set(FORMATS) - {"images"} == {name.split()[0] for name in WRITTEN}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_slide_gives_the_same_embeddings(
    source: Slide, expected: np.ndarray, net: Backbone, write_format: Callable, name: str
):
    (slide,) = open_dataset(write_format(name)).slides
    ids = source.spot_ids if name.startswith("hdf5") else slide.spot_ids  # HDF5 knows no ids
    row = {spot: index for index, spot in enumerate(ids)}
    order = [row[spot] for spot in source.spot_ids]
    rows = embedded(slide, slide.xy[order], net)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(slide.abundance[order], source.abundance, rtol=1e-6)
