"""Image files: every format gives the same pixels, in any band."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histoboost.errors import HistoboostError
from histoboost.slides.images import open_image
from histoboost.slides.images.base import over_white

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(300, 200, 3): large enough for several tiles and strips."""
    return np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)


def write(path: Path, pixels: np.ndarray, layout: str) -> Path:
    """Write `pixels` in the layout of a file that people have."""
    rgb = {"photometric": "rgb", "metadata": None}
    if layout == "png":
        Image.fromarray(pixels).save(path := path.with_suffix(".png"))
    elif layout == "png with opacity":
        opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        Image.fromarray(opaque).save(path := path.with_suffix(".png"))
    elif layout == "strips":
        tifffile.imwrite(path, pixels, rowsperstrip=7, compression="lzw", **rgb)
    elif layout == "one strip":
        tifffile.imwrite(path, pixels, **rgb)
    elif layout == "tiles":
        tifffile.imwrite(path, pixels, tile=(64, 64), compression="zlib", bigtiff=True, **rgb)
    elif layout == "planes":
        planes = np.moveaxis(pixels, -1, 0)
        tifffile.imwrite(path, planes, planarconfig="separate", tile=(64, 64), **rgb)
    elif layout == "pyramid":
        write_pyramid(path, pixels)
    elif layout == "ome":
        tifffile.imwrite(
            path := path.with_suffix(".ome.tif"),
            pixels,
            photometric="rgb",
            tile=(64, 64),
            metadata={"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"},
        )
    return path


def write_pyramid(path: Path, pixels: np.ndarray) -> Path:
    """A tiled TIFF with two coarser levels, as scanners' exporters write it."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, **options)
        for step in (2, 4):
            tiff.write(np.ascontiguousarray(pixels[::step, ::step]), subfiletype=1, **options)
    return path


LAYOUTS = [
    *("png", "png with opacity", "strips", "one strip", "tiles", "planes", "pyramid", "ome"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pixels_in_any_band(
    tmp_path: Path, picture: np.ndarray, layout: str
):
    image = open_image(write(tmp_path / "he.tif", picture, layout))
    image = pickle.loads(pickle.dumps(image))
    assert image.shape == picture.shape[:2]
    assert image.source_dtype == "uint8"
    for start, stop in [(0, 300), (63, 65), (299, 300), (5, 5)]:
        np.testing.assert_array_equal(image.read_rows(start, stop), picture[start:stop])


def test_a_whole_slide_file_is_read_in_bands(tmp_path: Path, picture: np.ndarray):
    openslide = pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    from histoboost.slides.images.openslide import open_wsi

    path = write_pyramid(tmp_path / "slide.tif", picture)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 3
    image = pickle.loads(pickle.dumps(open_wsi(path)))
    assert image.shape == (300, 200)
    assert image.tiles[0] == (64, 64)
    for start, stop in [(0, 300), (63, 65), (5, 5)]:
        np.testing.assert_array_equal(image.read_rows(start, stop), picture[start:stop])


def test_an_aperio_file_is_known_by_its_suffix_and_gives_its_scale(
    tmp_path: Path, picture: np.ndarray
):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / "slide.svs"
    tifffile.imwrite(
        path,
        picture,
        photometric="rgb",
        tile=(64, 64),
        description="Aperio Image Library v1\n200x300 |AppMag = 20|MPP = 0.4990",
        metadata=None,
    )
    image = open_image(path)
    assert image.um_per_px == pytest.approx(0.499)
    np.testing.assert_array_equal(image.read_rows(60, 70), picture[60:70])


def test_a_band_of_a_large_tiled_file_costs_its_own_memory_only(tmp_path: Path):
    import tracemalloc

    path = tmp_path / "large.tif"
    tile = np.full((256, 256, 3), 200, np.uint8)
    tiles = (tile for _ in range(32 * 32))
    tifffile.imwrite(
        path,
        tiles,
        shape=(8192, 8192, 3),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
    )
    image = open_image(path)
    tracemalloc.start()
    rows = image.read_rows(4000, 4100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.shape == (100, 8192, 3)
    assert image.tiles[0] == (256, 256)
    assert peak < 40 * 2**20  # the whole image is 192 MiB


def test_ome_metadata_give_the_scale_and_resolution_tags_do_not(
    tmp_path: Path, picture: np.ndarray
):
    assert open_image(write(tmp_path / "a.tif", picture, "ome")).um_per_px == 0.25
    path = tmp_path / "dpi.tif"
    tifffile.imwrite(path, picture, photometric="rgb", resolution=(72, 72), resolutionunit=2)
    assert open_image(path).um_per_px is None


def test_jpeg_is_read(tmp_path: Path, picture: np.ndarray):
    smooth = np.full_like(picture, 180)
    Image.fromarray(smooth).save(tmp_path / "he.jpg")
    np.testing.assert_array_equal(open_image(tmp_path / "he.jpg").read_rows(0, 300), smooth)


def test_what_is_transparent_is_white():
    pixel = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 255, 255], [10, 20, 30], [204, 204, 204]]]
    np.testing.assert_array_equal(over_white(pixel), expected)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((20, 20), np.uint8), "must be 8-bit RGB"),
        (np.zeros((20, 20, 3), np.uint16), "stores uint16"),
        (np.zeros((5, 20, 20), np.uint8), "must be 8-bit RGB"),
    ],
)
def test_a_tiff_that_is_no_rgb_is_one_clear_line(tmp_path: Path, pixels: np.ndarray, message: str):
    tifffile.imwrite(tmp_path / "he.tif", pixels)
    with pytest.raises(HistoboostError, match=message) as error:
        open_image(tmp_path / "he.tif")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["he.tif", "he.png", "he.svs"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, picture: np.ndarray, name: str):
    if name.endswith(".svs"):
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / name
    path.write_bytes(b"this is no image at all")
    with pytest.raises(HistoboostError, match="cannot be read as an image") as error:
        open_image(path)
    assert "\n" not in str(error.value)


def test_a_truncated_tiff_is_one_clear_line(tmp_path: Path, picture: np.ndarray):
    path = write(tmp_path / "he.tif", picture, "strips")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(HistoboostError, match="cannot be read as an image") as error:
        open_image(path).read_rows(0, 300)
    assert "\n" not in str(error.value)
