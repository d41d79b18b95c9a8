"""Image files of every kind: converted right, or refused in a line that says what they store."""

from __future__ import annotations

import logging
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


def noted(size: int) -> PngImagePlugin.PngInfo:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "x" * size, zip=True)
    return notes


OME = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}}
PLANES = np.moveaxis(RGB, -1, 0)

ALIKE: dict[str, Callable[[Path], Path]] = {
    "png with a large note": lambda p: png(p, RGB, pnginfo=noted(2 * 2**20)),
    "png with a large profile": lambda p: png(p, RGB, icc_profile=RNG.bytes(2 * 2**20)),
    "png, opaque": lambda p: png(p, OPAQUE),
    "tiff, opaque": lambda p: tiff(p, OPAQUE, photometric="rgb"),
    "tiff, opaque and premultiplied": lambda p: tiff(
        p, OPAQUE, photometric="rgb", extrasamples=["assocalpha"]
    ),
    "tiff of planes": lambda p: tiff(p, PLANES, photometric="rgb", planarconfig="separate"),
    "tiff of tiles with a predictor": lambda p: tiff(
        p, RGB, photometric="rgb", tile=(16, 16), compression="lzw", predictor=True
    ),
    "ome of named channels": lambda p: ome(p, PLANES, OME),
}


def ome(path: Path, pixels: np.ndarray, metadata: dict) -> Path:
    path = path.with_suffix(".ome.tif")
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=metadata)
    return path


@pytest.mark.parametrize("kind", ALIKE)
def test_what_is_read_equals_the_plain_image_to_the_last_bit(tmp_path: Path, kind: str):
    np.testing.assert_array_equal(rows(ALIKE[kind](tmp_path / "he")), RGB)


def test_jpeg_in_tiff_is_rgb_once_decoded(tmp_path: Path):
    flat = np.broadcast_to(np.array([200, 120, 160], np.uint8), (48, 32, 3))
    path = tiff(tmp_path / "he", flat, photometric="rgb", compression="jpeg", subsampling=(2, 2))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name == "YCBCR"
    assert np.abs(rows(path).astype(int) - flat).max() <= 3


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


def test_premultiplied_colours_are_not_multiplied_again(tmp_path: Path):
    stored = np.concatenate([np.rint(RGB * (ALPHA / 255)).astype(np.uint8), ALPHA], axis=-1)
    path = tiff(tmp_path / "he", stored, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(rows(path).astype(int) - over_white(RGBA)).max() <= 1


def test_floats_beyond_1_by_rounding_are_read_and_0_to_255_are_refused(tmp_path: Path):
    rounded = RGB.astype(np.float64) / 255 * 1.0000002
    np.testing.assert_array_equal(hdf5(tmp_path, rounded).read_rows(0, 48), RGB)
    with pytest.raises(HistoboostError, match="range from 0 to 255"):
        hdf5(tmp_path, RGB.astype(np.float32)).read_rows(0, 48)


def jpeg_of_cmyk(path: Path) -> Path:
    Image.fromarray(RGBA, "CMYK").save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


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
    "colours as MINISBLACK": lambda p: ome(
        p, PLANES, {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8"]}}
    ),
    "uint16": lambda p: tiff(p, RGB.astype(np.uint16), photometric="rgb"),
    "16 bits per channel": png_of_16_bits,
    "mode CMYK": jpeg_of_cmyk,
    "mode L": lambda p: png(p, RGB[..., 0]),
    "16 bits per": lambda p: png(p, RGB[..., 0].astype(np.uint16)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_8_bit_rgb_is_refused_by_name(tmp_path: Path, kind: str):
    path = REFUSED[kind](tmp_path / "he")
    with pytest.raises(HistoboostError, match=f"{path}: .*{kind}.*8-bit RGB") as error:
        open_image(path)
    assert "\n" not in str(error.value)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


# OpenSlide reads the last two, by their content, and decodes JPEG itself.
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".svs", ".svslide", ".scn"])
def test_an_orientation_tag_is_named_and_not_followed(tmp_path: Path, suffix: str):
    if suffix in (".svslide", ".scn"):
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / f"he{suffix}"

    def write(orientation: int) -> None:
        if suffix in (".png", ".jpg"):
            Image.fromarray(RGB).save(path, exif=exif(orientation))
            return
        tag = (274, 3, 1, orientation, True)
        options = {"photometric": "rgb", "tile": (16, 16), "metadata": None}
        tifffile.imwrite(path, RGB, compression="jpeg", extratags=[tag], **options)

    write(1)
    upright = rows(path)
    write(6)
    with pytest.warns(HistoboostWarning, match=rf"{path}: its orientation tag \(6\) is ignored"):
        assert open_image(path).shape == (48, 32)
    with pytest.warns(HistoboostWarning, match="orientation"):
        np.testing.assert_array_equal(rows(path), upright)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_tiles_that_openslide_would_turn_one_by_one_are_refused(tmp_path: Path, orientation: int):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / "he.svslide"
    for tag in (1, orientation):
        options = {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}
        extra = [(274, 3, 1, tag, True)]
        tifffile.imwrite(path, RGB, extratags=extra, metadata=None, **options)
        if tag == 1:
            np.testing.assert_array_equal(rows(path), RGB)
    with pytest.raises(HistoboostError, match="orientation tag, by which OpenSlide turns every"):
        open_image(path)


@pytest.mark.parametrize(
    ("size", "unit"), [(0.25, "µm"), (0.25, "μm"), (250.0, "nm"), (0.00025, "mm")]
)
def test_ome_sizes_are_read_in_any_unit(tmp_path: Path, size: float, unit: str):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    path = tmp_path / "he.ome.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=metadata)
    assert open_image(path).um_per_px == pytest.approx(0.25)


@pytest.mark.parametrize("size", [0.0, -0.5, float("inf"), 352.7778])
def test_a_scale_that_cannot_be_is_unknown_with_a_warning(tmp_path: Path, size: float):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": "µm"}
    path = tmp_path / "he.ome.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=metadata)
    with pytest.warns(HistoboostWarning, match="is implausible; the scale is taken as unknown"):
        assert open_image(path).um_per_px is None


def test_openslide_takes_no_scale_from_resolution_tags(tmp_path: Path):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = tmp_path / "he.svs"
    tifffile.imwrite(
        path, RGB, photometric="rgb", tile=(16, 16), resolution=(72, 72), resolutionunit=2
    )
    assert open_image(path).um_per_px is None


def test_a_declared_size_that_no_scanner_makes_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        image = file.create_dataset("he", (10**6, 10**6, 3), "u1", chunks=(256, 256, 3))
        with pytest.raises(HistoboostError, match="1000000 x 1000000 px, which is implausible"):
            hdf5_image(tmp_path / "a.h5", image)


def test_a_tiff_of_more_rows_than_strips_is_refused(tmp_path: Path):
    path = tiff(tmp_path / "he", RGB, photometric="rgb", rowsperstrip=5)
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["ImageLength"].valueoffset
    data = bytearray(path.read_bytes())
    data[at : at + 2] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(HistoboostError, match="has 10 of the 13107 strips or tiles"):
        open_image(path)


def test_tiles_for_which_openslide_would_end_the_process_are_refused(tmp_path: Path):
    pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = FUZZED["svs"](tmp_path / "he")
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("TileWidth", "TileLength")]
    data = bytearray(path.read_bytes())
    for at in places:
        data[at : at + 2] = b"\xf0\xff"
    path.write_bytes(data)
    with pytest.raises(HistoboostError, match="declares tiles of 4292870400 px|cannot be read"):
        open_image(path)


@pytest.mark.parametrize("tag", ["ImageWidth", "TileWidth", "TileLength"])
@pytest.mark.parametrize("suffix", [".tif", ".svs"])
def test_a_tiff_of_no_width_is_refused(tmp_path: Path, tag: str, suffix: str):
    path = tmp_path / f"he{suffix}"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(16, 16), metadata=None)
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[tag].valueoffset
    data = bytearray(path.read_bytes())
    data[at : at + 2] = b"\0\0"
    path.write_bytes(data)
    with pytest.raises(HistoboostError, match="which is implausible|cannot be read|no H&E|RGB"):
        open_image(path)


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
    "ome": lambda p: ome(p, PLANES, OME),
    "png": lambda p: png(p, RGB),
    "jpg": lambda p: jpeg(p),
    "svs": lambda p: tiff(p, RGB, photometric="rgb", tile=(16, 16)).rename(p.with_suffix(".svs")),
}


def jpeg(path: Path) -> Path:
    Image.fromarray(RGB).save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", FUZZED)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, kind, count, caplog, capfd):
    if kind == "svs":
        pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
    path = FUZZED[kind](tmp_path / "he")
    sound = path.read_bytes()
    rng = np.random.default_rng(count)
    for _ in range(count):
        data = bytearray(sound)
        # Tags and offsets lie at both ends.
        reach = len(data) if rng.random() < 0.3 else min(len(data), 400)
        for at in rng.integers(0, reach, rng.integers(1, 6)):
            data[at if rng.random() < 0.5 else -1 - at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del data[rng.integers(1, len(data)) :]
        path.write_bytes(data)
        try:
            said = str(rows(path).dtype)
        except HistoboostError as error:
            said = str(error)
        assert "\n" not in said
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
