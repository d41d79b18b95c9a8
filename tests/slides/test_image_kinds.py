"""Image files of every kind: converted correctly, or refused by what they store."""

from __future__ import annotations

import logging
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.images import open_image
from histoboost.slides.images.array import hdf5_image, zarr_image
from histoboost.slides.images.base import over_white

tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (48, 32, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (48, 32, 1), np.uint8)
RGBA = np.concatenate([RGB, ALPHA], axis=-1)
PLANES = np.moveaxis(RGB, -1, 0)
OPAQUE = np.concatenate([RGB, np.full_like(ALPHA, 255)], axis=-1)


def tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, pixels, **{"metadata": None, **options})
    return path


def png(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path.with_suffix(".png"), **options)
    return path.with_suffix(".png")


def rows(path: Path) -> np.ndarray:
    image = open_image(path)
    return image.read_rows(0, image.shape[0])


def jpeg(path: Path, pixels: np.ndarray = RGB, mode: str = "RGB") -> Path:
    Image.fromarray(pixels, mode).save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


def ome(path: Path, pixels: np.ndarray, **metadata: object) -> Path:
    path = path.with_suffix(".ome.tif")
    kind = "rgb" if metadata["axes"] == "YXS" else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, metadata=metadata)
    return path


def of_channels(path: Path, *names: str) -> Path:
    return ome(path, PLANES, axes="CYX", Channel={"Name": list(names)})


def set_tag(path: Path, name: str, value: bytes) -> None:
    """Overwrite the first bytes of the value of a tag."""
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[name].valueoffset
    data = path.read_bytes()
    path.write_bytes(data[:at] + value + data[at + len(value) :])


def noted(size: int) -> PngImagePlugin.PngInfo:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "x" * size, zip=True)
    return notes


ALIKE: dict[str, Callable[[Path], Path]] = {
    "png with a large note": lambda p: png(p, RGB, pnginfo=noted(2 * 2**20)),
    "png with a large profile": lambda p: png(p, RGB, icc_profile=RNG.bytes(2 * 2**20)),
    "png, opaque": lambda p: png(p, OPAQUE),
    "tiff, opaque": lambda p: tiff(p, OPAQUE, photometric="rgb"),
    "tiff, opaque and premultiplied": lambda p: tiff(
        p, OPAQUE, photometric="rgb", extrasamples=["assocalpha"]
    ),
    "tiff of tiles with a predictor": lambda p: tiff(
        p, RGB, photometric="rgb", tile=(16, 16), compression="lzw", predictor=True
    ),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_what_is_read_equals_the_plain_image_to_the_last_bit(tmp_path: Path, kind: str):
    np.testing.assert_array_equal(rows(ALIKE[kind](tmp_path / "he")), RGB)


def test_jpeg_is_rgb_once_decoded_also_in_tiff(tmp_path: Path):
    flat = np.tile(np.array([200, 120, 160], np.uint8), (48, 32, 1))
    path = tiff(tmp_path / "he", flat, photometric="rgb", compression="jpeg", subsampling=(2, 2))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name == "YCBCR"
    for one in (path, jpeg(tmp_path / "he", flat)):
        assert np.abs(rows(one).astype(int) - flat).max() <= 3


def hdf5(folder: Path, pixels: np.ndarray) -> np.ndarray:
    with h5py.File(folder / "a.h5", "w") as file:
        return hdf5_image(folder / "a.h5", file.create_dataset("he", data=pixels))


def zarr(folder: Path, pixels: np.ndarray) -> object:
    import zarr as library

    library.save_array(folder / "a.zarr" / "he", pixels)
    return zarr_image(folder / "a.zarr", "he")


@pytest.mark.parametrize("scale", [1, 255])
def test_transparency_is_white_alike_from_every_container(tmp_path: Path, scale: int):
    stored = RGBA if scale == 1 else RGBA.astype(np.float32) / 255
    images = [hdf5(tmp_path, stored), zarr(tmp_path, stored)]
    if scale == 1:
        images += [open_image(png(tmp_path / "he", RGBA))]
        images += [open_image(tiff(tmp_path / "he", RGBA, photometric="rgb"))]
    for image in images:
        np.testing.assert_array_equal(image.read_rows(0, 48), over_white(RGBA))


def test_what_is_transparent_is_white():
    pixel = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 255, 255], [10, 20, 30], [204, 204, 204]]]
    np.testing.assert_array_equal(over_white(pixel), expected)


def test_premultiplied_colours_are_not_multiplied_again(tmp_path: Path):
    stored = np.concatenate([np.rint(RGB * (ALPHA / 255)).astype(np.uint8), ALPHA], axis=-1)
    path = tiff(tmp_path / "he", stored, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(rows(path).astype(int) - over_white(RGBA)).max() <= 1


def test_floats_beyond_1_by_rounding_are_read_and_0_to_255_are_refused(tmp_path: Path):
    rounded = RGB.astype(np.float64) / 255 * 1.0000002
    for dtype in (np.float16, np.float32, np.float64):
        image = hdf5(tmp_path, rounded.astype(dtype))
        assert image.source_dtype == np.dtype(dtype).name
        np.testing.assert_array_equal(image.read_rows(0, 48), RGB)
    for value in (-0.1, 1.5, 255.0, np.nan):
        rounded[3, 4, 1] = value
        with pytest.raises(HistoboostError, match="must lie in 0..1 but range from"):
            hdf5(tmp_path, rounded).read_rows(0, 48)


def png_of_16_bits(path: Path) -> Path:
    """12-bit data in 16-bit RGB, which Pillow cannot write."""
    values = (RGB.astype(">u2") << 4).tobytes()
    lines = b"".join(b"\0" + values[i : i + 32 * 6] for i in range(0, len(values), 32 * 6))

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + crc

    head = (32).to_bytes(4, "big") + (48).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path.with_suffix(".png")


REFUSED: dict[str, Callable[[Path], Path]] = {
    "SEPARATED": lambda p: tiff(p, RGBA, photometric="separated"),
    "CIELAB": lambda p: tiff(p, RGB, photometric="cielab"),
    "YCBCR": lambda p: tiff(p, RGB, photometric="ycbcr"),
    "a fourth channel that is not opacity": lambda p: tiff(
        p, RGBA, photometric="rgb", extrasamples=["unspecified"]
    ),
    "MINISBLACK": lambda p: tiff(p, PLANES, photometric="minisblack", metadata={"axes": "CYX"}),
    "colours as MINISBLACK": lambda p: of_channels(p, "DAPI", "CD3", "CD8"),
    "axes YX of": lambda p: tiff(p, RGB[..., 0]),
    "axes IYX of": lambda p: tiff(p, np.zeros((5, 20, 20), np.uint8)),
    "uint16": lambda p: tiff(p, RGB.astype(np.uint16), photometric="rgb"),
    "16 bits per channel": png_of_16_bits,
    "mode CMYK": lambda p: jpeg(p, RGBA, "CMYK"),
    "mode L": lambda p: png(p, RGB[..., 0]),
    "16 bits per": lambda p: png(p, RGB[..., 0].astype(np.uint16)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_8_bit_rgb_is_refused_by_name(tmp_path: Path, kind: str):
    path = REFUSED[kind](tmp_path / "he")
    with pytest.raises(HistoboostError, match=f"{path}: .*{kind}.*8-bit RGB"):
        open_image(path)


def turned(path: Path, orientation: int, compression: str = "jpeg") -> None:
    """Write a file with an orientation tag."""
    if path.suffix in (".png", ".jpg"):
        tags = Image.Exif()
        tags[274] = orientation
        Image.fromarray(RGB).save(path, exif=tags)
        return
    tag = (274, 3, 1, orientation, True)
    options = {"photometric": "rgb", "tile": (16, 16), "metadata": None}
    tifffile.imwrite(path, RGB, compression=compression, extratags=[tag], **options)


# OpenSlide reads the last two, by their content, and decodes JPEG itself.
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".svs", ".svslide", ".scn"])
def test_an_orientation_tag_is_named_and_not_followed(tmp_path: Path, suffix: str):
    if suffix in (".svslide", ".scn"):
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / f"he{suffix}"
    turned(path, 1)
    upright = rows(path)
    turned(path, 6)
    with pytest.warns(HistoboostWarning, match=rf"{path}: its orientation tag \(6\) is ignored"):
        assert open_image(path).shape == (48, 32)
    with pytest.warns(HistoboostWarning, match="orientation"):
        np.testing.assert_array_equal(rows(path), upright)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_tiles_that_openslide_would_turn_one_by_one_are_refused(tmp_path: Path, orientation: int):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / "he.svslide"
    turned(path, 1, "zlib")
    np.testing.assert_array_equal(rows(path), RGB)
    turned(path, orientation, "zlib")
    with pytest.raises(HistoboostError, match="orientation tag, by which OpenSlide turns every"):
        open_image(path)


@pytest.mark.parametrize(
    ("size", "unit"), [(0.25, "µm"), (0.25, "μm"), (250.0, "nm"), (0.00025, "mm")]
)
def test_ome_sizes_are_read_in_any_unit(tmp_path: Path, size: float, unit: str):
    path = ome(tmp_path / "he", RGB, axes="YXS", PhysicalSizeX=size, PhysicalSizeXUnit=unit)
    assert open_image(path).um_per_px == pytest.approx(0.25)


@pytest.mark.parametrize("size", [0.0, -0.5, float("inf"), 352.7778])
def test_a_scale_that_cannot_be_is_unknown_with_a_warning(tmp_path: Path, size: float):
    path = ome(tmp_path / "he", RGB, axes="YXS", PhysicalSizeX=size, PhysicalSizeXUnit="µm")
    with pytest.warns(HistoboostWarning, match="is implausible; the scale is taken as unknown"):
        assert open_image(path).um_per_px is None


@pytest.mark.parametrize("suffix", [".tif", ".svslide"])
def test_no_scale_is_taken_from_resolution_tags(tmp_path: Path, suffix: str):
    if suffix == ".svslide":
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / f"he{suffix}"
    tifffile.imwrite(
        path, RGB, photometric="rgb", tile=(16, 16), resolution=(72, 72), resolutionunit=2
    )
    assert open_image(path).um_per_px is None


def test_an_implausible_size_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        image = file.create_dataset("he", (10**6, 10**6, 3), "u1", chunks=(256, 256, 3))
        with pytest.raises(HistoboostError, match="1000000 x 1000000 px, which is implausible"):
            hdf5_image(tmp_path / "a.h5", image)


def test_a_tiff_of_more_rows_than_strips_is_refused(tmp_path: Path):
    path = tiff(tmp_path / "he", RGB, photometric="rgb", rowsperstrip=5)
    set_tag(path, "ImageLength", b"\xff\xff")
    with pytest.raises(HistoboostError, match="has 10 of the 13107 strips or tiles"):
        open_image(path)


def test_tiles_that_would_crash_openslide_are_refused(tmp_path: Path):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = FUZZED["svs"](tmp_path / "he")
    for name in ("TileWidth", "TileLength"):
        set_tag(path, name, b"\xf0\xff")
    with pytest.raises(HistoboostError, match="declares tiles of 4292870400 px|cannot be read"):
        open_image(path)


@pytest.mark.parametrize("tag", ["ImageWidth", "TileWidth", "TileLength"])
@pytest.mark.parametrize("suffix", [".tif", ".svs"])
def test_a_tiff_of_no_width_is_refused(tmp_path: Path, tag: str, suffix: str):
    path = tmp_path / f"he{suffix}"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(16, 16), metadata=None)
    set_tag(path, tag, b"\0\0")
    with pytest.raises(HistoboostError, match="which is implausible|cannot be read|no H&E|RGB"):
        open_image(path)


def test_a_tile_that_the_scanner_left_out_is_white(tmp_path: Path):
    path = tiff(tmp_path / "he", RGB, photometric="rgb", tile=(16, 16))
    set_tag(path, "TileByteCounts", b"\0\0\0\0")
    assert (rows(path)[:16, :16] == 255).all()
    np.testing.assert_array_equal(rows(path)[16:], RGB[16:])


def test_a_png_that_is_too_small_for_its_pixels_is_refused(tmp_path: Path):
    path = png(tmp_path / "he", RGB)
    data = bytearray(path.read_bytes())
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(HistoboostError, match="too small for 50000 x 50000 px|in one piece need"):
        open_image(path)


FUZZED: dict[str, Callable[[Path], Path]] = {
    "strips": lambda p: tiff(p, RGB, photometric="rgb", rowsperstrip=5, compression="lzw"),
    "tiles": lambda p: tiff(p, RGB, photometric="rgb", tile=(16, 16), compression="zlib"),
    "jpeg tiles": lambda p: tiff(p, RGB, photometric="rgb", tile=(16, 16), compression="jpeg"),
    "ome": lambda p: of_channels(p, "Red", "Green", "Blue"),
    "png": lambda p: png(p, RGB),
    "jpg": jpeg,
    "svs": lambda p: tiff(p, RGB, photometric="rgb", tile=(16, 16)).rename(p.with_suffix(".svs")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", FUZZED)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, kind, count, fuzz, caplog, capfd):
    if kind == "svs":
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = FUZZED[kind](tmp_path / "he")
    fuzz(tmp_path, count, lambda: rows(path))
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["he.tif", "he.png", "he.svs"])
def test_a_file_that_is_not_an_image_is_one_clear_line(tmp_path: Path, name: str):
    if name.endswith(".svs"):
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    (tmp_path / name).write_bytes(b"no image at all")
    with pytest.raises(HistoboostError, match="cannot be read as an image"):
        open_image(tmp_path / name)


def test_a_truncated_tiff_is_one_clear_line(tmp_path: Path):
    path = FUZZED["strips"](tmp_path / "he")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(HistoboostError, match="cannot be read as an image"):
        rows(path)


def test_a_band_of_a_large_tiled_file_costs_its_own_memory_only(tmp_path: Path):
    tiles = (np.full((256, 256, 3), 200, np.uint8) for _ in range(32 * 32))
    options = {"shape": (8192, 8192, 3), "dtype": np.uint8, "tile": (256, 256)}
    tifffile.imwrite(
        tmp_path / "large.tif", tiles, photometric="rgb", compression="zlib", **options
    )
    image = open_image(tmp_path / "large.tif")
    tracemalloc.start()
    assert image.read_rows(4000, 4100).shape == (100, 8192, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 2**20  # the whole image is 192 MiB
