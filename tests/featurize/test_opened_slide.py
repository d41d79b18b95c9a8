"""Unchanged images are not read again; patches of large slides are cut from coarser levels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize
from histoboost.phantom import phantom_slide
from histoboost.slides import tile_cache
from histoboost.slides.images import open_image, raster, tiff
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import SlideImage
from histoboost.slides.slide import Dataset, Slide

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")

OPTIONS = {"backbone": "stain-texture", "patch": [32]}


@pytest.fixture(scope="module")
def phantom() -> Slide:
    return phantom_slide("S_1", seed=8000, spots=60)


def write(folder: Path, source: Slide, suffix: str = ".tif") -> Dataset:
    """The phantom in a file: as a pyramid of tiles, or a PNG."""
    path, whole = folder / f"he{suffix}", source.image.read_rows(0, source.image.shape[0])
    if suffix == ".png":
        Image.fromarray(whole).save(path)
    else:
        options = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
        with tifffile.TiffWriter(path) as file:
            file.write(whole, **options)
            file.write(np.ascontiguousarray(whole[::2, ::2]), subfiletype=1, **options)
    return Dataset(folder, [replace(source, image=open_image(path))])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Embeds, and counts the regions that are read of image files."""
    count = 0

    def counting(read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def read_region(image: SlideImage, *where: int) -> np.ndarray:
            nonlocal count
            count += 1
            return read(image, *where)

        return read_region

    for kind in (tiff.TiffImage, raster.RasterImage):
        monkeypatch.setattr(kind, "read_region", counting(kind.read_region))

    def reads(data: Dataset, store: Path, **options: object) -> int:
        nonlocal count
        count = 0
        featurize(data, store, **{**OPTIONS, **options})
        return count

    return reads


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides count as large."""
    monkeypatch.setattr(tile_cache, "SMALL", 0)


@pytest.fixture(params=["small", "large"])
def _size(request: pytest.FixtureRequest) -> None:
    if request.param == "large":
        request.getfixturevalue("large")


@pytest.mark.usefixtures("_size")
@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    "options",
    [{}, {"alignment": "auto"}, {"backbone": "none"}, {"stain": "macenko"}, {"stain": "reinhard"}],
    ids=str,
)
def test_a_second_run_reads_no_pixel(tmp_path, phantom, reads, suffix, options):
    if "stain" in options:
        pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    data, store = write(tmp_path, phantom, suffix), tmp_path / "store"
    assert reads(data, store, **options) > 0
    assert reads(data, store, **options) == 0
    assert EmbeddingStore(store).spots("S_1").thumbnail is not None
    data = write(tmp_path, phantom, suffix)  # the same, of another age
    assert reads(data, store, **options) > 0
    assert reads(data, store, **options, check_sources=True) > 0
    assert reads(data, store, name="plain") > 0


@pytest.mark.usefixtures("_size")
def test_missing_chunks_are_computed_from_an_unchanged_image(tmp_path, phantom, reads):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    reads(data, store)
    before = EmbeddingStore(store).read("S_1", "stain-texture@32")
    chunk = next((store / "slides/S_1/obsm/stain-texture@32/c").rglob("0"))
    for path in [chunk] if chunk.is_file() else [p for p in chunk.rglob("*") if p.is_file()]:
        path.unlink()
    assert reads(data, store) > 0
    np.testing.assert_array_equal(EmbeddingStore(store).read("S_1", "stain-texture@32"), before)
    shutil.rmtree(store / "slides/S_1/uns/spatial")
    assert reads(data, store) > 0
    assert EmbeddingStore(store).spots("S_1").thumbnail is not None


def test_a_replaced_image_is_refused(tmp_path, phantom, reads):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    reads(data, store)
    whole = phantom.image.read_rows(0, phantom.image.shape[0]).copy()
    whole[5, 5] ^= 1
    other = replace(phantom, image=ArrayImage(whole))
    with pytest.raises(HistoboostError, match="the image of the slide has changed"):
        reads(write(tmp_path, other), store)


@pytest.mark.usefixtures("_size")
def test_a_moved_file_is_the_same_slide(tmp_path, phantom, reads):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    reads(data, store)
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "he.tif", tmp_path / "other" / "he.tif")
    os.utime(tmp_path / "other" / "he.tif", (0, 0))
    moved = replace(data.slides[0], image=open_image(tmp_path / "other" / "he.tif"))
    assert reads(Dataset(tmp_path, [moved]), store) > 0
    assert reads(Dataset(tmp_path, [moved]), store) == 0


def test_remembered_sources_are_verified_and_removed_with_the_slide(tmp_path, phantom, reads):
    reads(write(tmp_path, phantom), tmp_path / "store")
    store = EmbeddingStore(tmp_path / "store")
    assert store.source("S_1")["files"]
    assert store.verify().damaged == ()
    assert store.remove(slide="S_1") == ["S_1"]


@pytest.mark.parametrize("stain", ["none", "macenko"])
def test_embeddings_of_large_slides_from_older_versions_stay_valid(
    tmp_path, phantom, reads, request, stain
):
    if stain != "none":
        pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    data, store = write(tmp_path, phantom), tmp_path / "store"
    reads(data, store, stain=stain)  # known by its pixels, as it was in 0.1.0
    shutil.rmtree(store / "slides/S_1/uns/source")
    request.getfixturevalue("large")
    assert reads(data, store, stain=stain) > 0
    assert reads(data, store, stain=stain) == 0
    recipe = EmbeddingStore(store).embeddings("S_1")["stain-texture@32"]
    assert not recipe.fields["slide_pixels"].startswith(tile_cache.OF_FILES)


@pytest.fixture
def both(tmp_path, phantom, request) -> Callable[..., list[EmbeddingStore]]:
    """Embeds the phantom as a small and as a large slide."""

    def both(**options: object) -> list[EmbeddingStore]:
        data = write(tmp_path, phantom)
        featurize(data, tmp_path / "as small", **options)
        request.getfixturevalue("large")
        featurize(data, tmp_path / "as large", **options)
        return [EmbeddingStore(tmp_path / name) for name in ("as small", "as large")]

    return both


def test_patches_of_a_large_slide_are_cut_from_its_coarser_level(both, tiny_net):
    stores = both(backbone=tiny_net, patch=[200], engine="torch")
    small, large = (store.embeddings("S_1")[f"{tiny_net}@200"] for store in stores)
    assert "slide_level" not in small.fields
    assert large.fields["slide_level"] == {"downsample": 2.0, "patch_px": 100}
    assert small.without_slide() == large.without_slide()


@pytest.mark.parametrize("patch", [16, 65])
def test_a_large_slide_gives_the_numbers_of_a_small_one_at_full_resolution(both, patch):
    stores = both(backbone="stain-texture", patch=[patch])
    np.testing.assert_array_equal(
        *(store.read("S_1", f"stain-texture@{patch}") for store in stores)
    )
