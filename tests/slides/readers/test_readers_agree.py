"""One slide, every format: the embeddings are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
    """Embeddings of the slide in memory, (N, D)."""
    return embedded(source, source.xy, net)


def embedded(slide: Slide, xy: np.ndarray, net: Backbone) -> np.ndarray:
    """Embeddings around `xy`, (N, D) float32: the store would round them to float16."""
    image, _ = read_pixels(slide.image)
    starts = window_starts(xy, PATCH_PX)
    cut = torch.from_numpy(patches.crop(image, starts, PATCH_PX)).permute(0, 3, 1, 2)
    cut = patches.resize(cut, 64)
    with torch.inference_mode():
        return net.module(patches.normalise(cut, net.mean, net.std)).numpy()


WRITTEN = [
    *("hdf5 of uint8", "hdf5 of float32", "spaceranger", "anndata in h5ad", "anndata in zarr"),
    *("spatialdata", "manifest of png", "manifest of tiff", "manifest of svs"),
    *("manifest of openslide", "manifest of ome-tiff"),
    *("manifest of ome-zarr 2", "manifest of ome-zarr 3"),
]


def test_every_format_is_covered():
    # Plain images have no spots.
    assert set(FORMATS) - {"images"} == {name.split()[0] for name in WRITTEN}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_slide_gives_the_same_embeddings(source, expected, net, write_format, name):
    (slide,) = open_dataset(write_format(name)).slides
    ids = source.spot_ids if name.startswith("hdf5") else slide.spot_ids  # HDF5 knows no ids
    row = {spot: index for index, spot in enumerate(ids)}
    order = [row[spot] for spot in source.spot_ids]
    rows = embedded(slide, slide.xy[order], net)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(slide.abundance[order], source.abundance, rtol=1e-6)
