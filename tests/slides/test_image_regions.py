"""Regions of images equal the pixels of the file, for every source, level and thread."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

from histoboost.errors import HistoboostError
from histoboost.slides.images import open_image
from histoboost.slides.images.array import ArrayImage, hdf5_image
from histoboost.slides.images.base import SlideImage, pyramid

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")

RGB = np.random.default_rng(0).integers(0, 256, (150, 110, 3), np.uint8)
HALF = np.ascontiguousarray(RGB[::2, ::2])
PLANES = np.moveaxis(RGB, -1, 0)
APERIO = "Aperio Image Library v1\n110x150 |AppMag = 20|MPP = 0.4990"


def hdf5(folder: Path) -> SlideImage:
    with h5py.File(folder / "a.h5", "w") as file:
        floats = RGB.astype(np.float32) / 255
        return hdf5_image(
            folder / "a.h5", file.create_dataset("he", data=floats, chunks=(32, 8, 3))
        )


def png(folder: Path) -> SlideImage:
    Image.fromarray(RGB).save(folder / "he.png")
    return open_image(folder / "he.png")


def tiff(folder: Path, name: str = "he.tif", *, pixels: np.ndarray = RGB, **options) -> SlideImage:
    options = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(folder / name, pixels, **options)
    return open_image(folder / name)


def ome_planes(folder: Path) -> SlideImage:
    channels = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}}
    options = {"photometric": "minisblack", "metadata": channels}
    return tiff(folder, "he.ome.tif", pixels=PLANES, tile=(32, 48), **options)


def aperio(folder: Path, name: str = "he.svs") -> SlideImage:
    options = {"photometric": "rgb", "tile": (32, 48), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(folder / name) as file:
        file.write(RGB, description=APERIO, **options)
        file.write(RGB[::8, ::8], photometric="rgb", description=APERIO, metadata=None)  # thumbnail
        file.write(HALF, description=APERIO, subfiletype=0, **options)
    return open_image(folder / name)


def subifds(folder: Path) -> SlideImage:
    with tifffile.TiffWriter(folder / "he.ome.tif", ome=True) as file:
        options = {"photometric": "rgb", "tile": (32, 48)}
        file.write(RGB, subifds=1, metadata={"axes": "YXS"}, **options)
        file.write(HALF, subfiletype=1, **options)
    return open_image(folder / "he.ome.tif")


def openslide(folder: Path) -> SlideImage:
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    from histoboost.slides.images.openslide import open_wsi

    aperio(folder, "slide.tif")
    return open_wsi(folder / "slide.tif")


def ome_zarr(folder: Path, axes: str = "tczyx") -> SlideImage:
    group = zarr.open_group(folder / "he.ome.zarr", mode="w")
    for name, pixels in {"0": RGB, "1": HALF}.items():
        planes = np.moveaxis(pixels, -1, 0)
        stored = planes[None, :, None] if axes == "tczyx" else pixels
        chunks = (1, 1, 1, 40, 40) if axes == "tczyx" else (40, 40, 3)
        group.create_array(name, data=stored, chunks=chunks)
    units = {"x": {"unit": "micrometer"}, "y": {"unit": "micrometer"}}
    steps = [{"type": "scale", "scale": [0.25 if a in "xy" else 1.0 for a in axes]}]
    multiscales = {
        "axes": [{"name": axis, **units.get(axis, {})} for axis in axes],
        "datasets": [{"path": p, "coordinateTransformations": steps} for p in ("0", "1")],
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscales]}
    return open_image(folder / "he.ome.zarr")


SOURCES: dict[str, Callable[[Path], SlideImage]] = {
    "memory": lambda folder: ArrayImage(RGB),
    "hdf5": hdf5,
    "png": png,
    "strips": lambda f: tiff(f, rowsperstrip=7, compression="lzw", predictor=True),
    "one strip": tiff,
    "tiles": lambda f: tiff(f, tile=(32, 48), compression="zlib"),
    "planes": lambda f: tiff(f, pixels=PLANES, planarconfig="separate", tile=(32, 48)),
    "ome planes": ome_planes,
    "aperio": aperio,
    "ome with subifds": subifds,
    "openslide": openslide,
    "ome-zarr": ome_zarr,
    "ome-zarr yxc": lambda f: ome_zarr(f, "yxc"),
}
PYRAMIDS = ["aperio", "ome with subifds", "openslide", "ome-zarr", "ome-zarr yxc"]
REGIONS = [(0, 0, 110, 150), (31, 47, 2, 2), (109, 149, 1, 1), (5, 60, 80, 33), (7, 9, 0, 4)]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_region_equals_the_pixels_of_the_file(tmp_path: Path, kind: str):
    image = SOURCES[kind](tmp_path)
    assert image.shape == (150, 110)
    for x, y, width, height in REGIONS:
        seen = image.read_region(0, x, y, width, height)
        np.testing.assert_array_equal(seen, RGB[y : y + height, x : x + width])
        assert seen.dtype == np.uint8


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_a_pyramid_gives_regions_of_its_coarser_level(tmp_path: Path, kind: str):
    image = SOURCES[kind](tmp_path)
    assert image.levels == ((150, 110, 1.0), (75, 55, 2.0))
    np.testing.assert_array_equal(image.read_region(1, 0, 0, 55, 75), HALF)
    np.testing.assert_array_equal(image.read_region(1, 10, 33, 9, 40), HALF[33:73, 10:19])


@pytest.mark.parametrize("kind", SOURCES)
def test_many_threads_read_one_image_at_once(tmp_path: Path, kind: str):
    image = pickle.loads(pickle.dumps(SOURCES[kind](tmp_path)))
    places = [(x, y) for x in range(0, 90, 10) for y in range(0, 130, 13)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda at: image.read_region(0, *at, 20, 20), places))
    for (x, y), region in zip(places, seen, strict=True):
        np.testing.assert_array_equal(region, RGB[y : y + 20, x : x + 20])


@pytest.mark.parametrize(("kind", "um"), [("aperio", 0.499), ("ome-zarr", 0.25), ("tiles", None)])
def test_the_scale_comes_from_the_metadata(tmp_path: Path, kind: str, um: float | None):
    assert SOURCES[kind](tmp_path).um_per_px == um


def test_an_aperio_file_needs_no_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    np.testing.assert_array_equal(aperio(tmp_path).read_region(0, 0, 0, 110, 150), RGB)


def test_jpeg_tiles_are_decoded_as_openslide_does(tmp_path: Path):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    from histoboost.slides.images.openslide import open_wsi

    smooth = np.asarray(Image.fromarray(RGB[::10, ::10]).resize((110, 150)))
    ours = tiff(tmp_path, "a.svs", pixels=smooth, tile=(32, 48), compression="jpeg")
    theirs = open_wsi(tmp_path / "a.svs")
    both = [one.read_region(0, 0, 0, 110, 150) for one in (ours, theirs)]
    np.testing.assert_array_equal(*both)


def test_a_folder_that_is_not_an_image_is_one_clear_line(tmp_path: Path):
    with pytest.raises(HistoboostError, match="a folder that is not an image"):
        open_image(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "factors"),
    [
        ([(3001, 4003), (750, 1000), (187, 250)], [1, 4, 16]),
        ([(3001, 4003), (751, 1001)], [1, 4]),
        ([(100, 100), (37, 37)], [1, 100 / 37]),
    ],
)
def test_a_level_that_was_cut_off_by_less_than_a_pixel_has_a_whole_factor(shapes, factors):
    assert [level.downsample for level in pyramid(shapes)] == pytest.approx(factors)
