"""Embeddings stored by version 0.1.0 equal today's, to the last bit, from any file.

The archive holds a slide in the challenge's HDF5, and a store that 0.1.0 made of it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.slides import tile_cache
from histoboost.slides.images import open_image
from histoboost.slides.images.array import hdf5_image, zarr_image
from histoboost.slides.images.base import SlideImage
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")

OPTIONS = {"backbone": "stain-texture", "patch": [16, 33]}
NAMES = ["stain-texture@16", "stain-texture@33"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "data" / "embedded-0.1.0.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def png(folder: Path, rgb: np.ndarray) -> SlideImage:
    Image.fromarray(rgb).save(folder / "he.png")
    return open_image(folder / "he.png")


def tiff(folder: Path, rgb: np.ndarray, name: str = "he.tif", **options: object) -> SlideImage:
    tifffile.imwrite(folder / name, rgb, photometric="rgb", metadata=None, **options)
    return open_image(folder / name)


def openslide(folder: Path, rgb: np.ndarray) -> SlideImage:
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    from histoboost.slides.images.openslide import open_wsi

    tiff(folder, rgb, tile=(32, 48), compression="zlib")
    return open_wsi(folder / "he.tif")


def floats(folder: Path, rgb: np.ndarray) -> SlideImage:
    with h5py.File(folder / "he.h5", "w") as file:
        stored = (rgb / 255).astype(np.float32)
        options = {"chunks": (20, 30, 3), "compression": "gzip"}
        return hdf5_image(folder / "he.h5", file.create_dataset("he", data=stored, **options))


def zarr_array(folder: Path, rgb: np.ndarray) -> SlideImage:
    zarr.save_array(folder / "he.zarr" / "he", rgb)
    return zarr_image(folder / "he.zarr", "he")


SOURCES: dict[str, Callable[[Path, np.ndarray], SlideImage]] = {
    "itself": lambda folder, rgb: open_dataset(folder / "data.h5").slides[0].image,
    "png": png,
    "strips": lambda f, rgb: tiff(f, rgb, rowsperstrip=7, compression="lzw"),
    "tiles": lambda f, rgb: tiff(f, rgb, tile=(32, 48), compression="zlib"),
    "aperio": lambda f, rgb: tiff(f, rgb, "he.svs", tile=(32, 48), description="Aperio Image"),
    "openslide": openslide,
    "hdf5 of floats": floats,
    "zarr": zarr_array,
}


@pytest.mark.parametrize("small", [True, False], ids=["in memory", "by tiles"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_numbers(folder: Path, source: str, small: bool, monkeypatch):
    (slide,) = open_dataset(folder / "data.h5").slides
    rgb = slide.image.read_rows(0, slide.image.shape[0])
    if not small:
        monkeypatch.setattr(tile_cache, "SMALL", 0)
    data = Dataset(folder, [replace(slide, image=SOURCES[source](folder, rgb))])
    again = featurize(data, folder / "store", **OPTIONS)
    assert again.computed == 0, "0.1.0 and today name these pixels alike"
    featurize(data, folder / "new", **OPTIONS)
    old, new = EmbeddingStore(folder / "store"), EmbeddingStore(folder / "new")
    for name in NAMES:
        np.testing.assert_array_equal(old.read("S_1", name), new.read("S_1", name))
