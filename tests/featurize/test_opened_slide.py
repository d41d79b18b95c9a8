"""Images that have not changed are not read again; those of large slides are cut from levels."""

from __future__ import annotations

import os
import shutil
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


class Counted:
    """Counts the regions that are read of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        for kind in (tiff.TiffImage, raster.RasterImage):
            monkeypatch.setattr(kind, "read_region", self._counting(kind.read_region))

    def _counting(self, read):
        def counted(image: SlideImage, *where: int) -> np.ndarray:
            self.reads += 1
            return read(image, *where)

        return counted

    def of(self, data: Dataset, store: Path, **options: object) -> int:
        """How many of them a run reads."""
        self.reads = 0
        featurize(data, store, **{**OPTIONS, **options})
        return self.reads


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture(params=["small", "large"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "large":
        monkeypatch.setattr(tile_cache, "SMALL", 0)


@pytest.mark.usefixtures("_size")
@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("alignment", ["none", "auto"])
def test_a_second_run_reads_no_pixel(tmp_path, phantom, counted, suffix, alignment):
    data, store = write(tmp_path, phantom, suffix), tmp_path / "store"
    assert counted.of(data, store, alignment=alignment) > 0
    assert counted.of(data, store, alignment=alignment) == 0
    data = write(tmp_path, phantom, suffix)  # the same, of another age
    assert counted.of(data, store, alignment=alignment) > 0
    assert counted.of(data, store, alignment=alignment, check_sources=True) > 0


@pytest.mark.parametrize("stain", ["macenko", "reinhard"])
@pytest.mark.usefixtures("_size")
def test_a_second_run_with_stain_normalisation_reads_no_pixel(tmp_path, phantom, counted, stain):
    pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    data = write(tmp_path, phantom)
    assert counted.of(data, tmp_path / "store", stain=stain) > 0
    assert counted.of(data, tmp_path / "store", stain=stain) == 0
    assert counted.of(data, tmp_path / "store", name="plain") > 0


def test_spots_alone_need_no_second_look_at_the_image(tmp_path, phantom, counted):
    data = write(tmp_path, phantom)
    assert counted.of(data, tmp_path / "store", backbone="none") > 0
    assert counted.of(data, tmp_path / "store", backbone="none") == 0
    assert EmbeddingStore(tmp_path / "store").spots("S_1").thumbnail is not None
    assert counted.of(data, tmp_path / "store") > 0


@pytest.mark.usefixtures("_size")
def test_what_is_missing_or_damaged_is_computed_from_an_image_that_has_not_changed(
    tmp_path, phantom, counted
):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    counted.of(data, store)
    before = EmbeddingStore(store).read("S_1", "stain-texture@32")
    chunk = next((store / "slides/S_1/obsm/stain-texture@32/c").rglob("0"))
    for path in [chunk] if chunk.is_file() else [p for p in chunk.rglob("*") if p.is_file()]:
        path.unlink()
    assert counted.of(data, store) > 0
    np.testing.assert_array_equal(EmbeddingStore(store).read("S_1", "stain-texture@32"), before)
    shutil.rmtree(store / "slides/S_1/uns/spatial")
    assert counted.of(data, store) > 0
    assert EmbeddingStore(store).spots("S_1").thumbnail is not None


def test_an_image_that_was_replaced_is_refused_as_before(tmp_path, phantom, counted):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    counted.of(data, store)
    whole = phantom.image.read_rows(0, phantom.image.shape[0]).copy()
    whole[5, 5] ^= 1
    other = replace(phantom, image=replace(phantom.image, pixels=whole))
    with pytest.raises(HistoboostError, match="the image of the slide has changed"):
        counted.of(write(tmp_path, other), store)


@pytest.mark.usefixtures("_size")
def test_a_file_that_was_moved_is_the_same_slide(tmp_path, phantom, counted):
    data, store = write(tmp_path, phantom), tmp_path / "store"
    counted.of(data, store)
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "he.tif", tmp_path / "other" / "he.tif")
    os.utime(tmp_path / "other" / "he.tif", (0, 0))
    moved = replace(data.slides[0], image=open_image(tmp_path / "other" / "he.tif"))
    assert counted.of(Dataset(tmp_path, [moved]), store) > 0
    assert counted.of(Dataset(tmp_path, [moved]), store) == 0


def test_what_a_store_remembers_is_foreign_to_nobody(tmp_path, phantom, counted):
    counted.of(write(tmp_path, phantom), tmp_path / "store")
    store = EmbeddingStore(tmp_path / "store")
    assert store.source("S_1")["files"]
    assert store.verify().damaged == ()
    assert store.remove(slide="S_1") == ["S_1"]


@pytest.mark.parametrize("stain", ["none", "macenko"])
def test_embeddings_of_a_large_slide_that_an_older_version_stored_stay(
    tmp_path, phantom, counted, monkeypatch, stain
):
    if stain != "none":
        pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    data, store = write(tmp_path, phantom), tmp_path / "store"
    counted.of(data, store, stain=stain)  # known by its pixels, as it was in 0.1.0
    shutil.rmtree(store / "slides/S_1/uns/source")
    monkeypatch.setattr(tile_cache, "SMALL", 0)
    assert counted.of(data, store, stain=stain) > 0
    assert counted.of(data, store, stain=stain) == 0
    assert (
        not EmbeddingStore(store)
        .embeddings("S_1")["stain-texture@32"]
        .fields["slide_pixels"]
        .startswith(tile_cache.OF_FILES)
    )


def test_patches_of_a_large_slide_are_cut_from_its_coarser_level(
    tmp_path, phantom, counted, monkeypatch, tiny_net
):
    options = {"backbone": tiny_net, "patch": [200], "engine": "torch"}
    data = write(tmp_path, phantom)
    counted.of(data, tmp_path / "small", **options)
    monkeypatch.setattr(tile_cache, "SMALL", 0)
    counted.of(data, tmp_path / "large", **options)
    stores = [EmbeddingStore(tmp_path / name) for name in ("small", "large")]
    told = [store.embeddings("S_1")[f"{tiny_net}@200"].fields for store in stores]
    assert "slide_level" not in told[0]
    assert told[1]["slide_level"] == {"downsample": 2.0, "patch_px": 100}
    assert (
        stores[0].embeddings("S_1")[f"{tiny_net}@200"].without_slide()
        == stores[1].embeddings("S_1")[f"{tiny_net}@200"].without_slide()
    )


@pytest.mark.parametrize("patch", [16, 65])
def test_a_large_slide_gives_the_numbers_of_a_small_one_at_full_resolution(
    tmp_path, phantom, counted, monkeypatch, patch
):
    counted.of(write(tmp_path, phantom), tmp_path / "small", patch=[patch])
    monkeypatch.setattr(tile_cache, "SMALL", 0)
    counted.of(write(tmp_path, phantom), tmp_path / "large", patch=[patch])
    rows = [
        EmbeddingStore(tmp_path / n).read("S_1", f"stain-texture@{patch}")
        for n in ("small", "large")
    ]
    np.testing.assert_array_equal(*rows)
