"""No reader follows a file to another one, and none hands a file to another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from histoboost.cache.patch_files import read_h5
from histoboost.errors import HistoboostError
from histoboost.phantom import write_phantom
from histoboost.slides.images import open_image
from histoboost.slides.readers import open_dataset

Spoil = Callable[[h5py.File, str, Path], None]


def external_link(file: h5py.File, name: str, other: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(other, name)


def raw_file(file: h5py.File, name: str, other: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str, other: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(other, name, shape, dtype)
    del file[name]
    file.create_virtual_dataset(name, layout)


def external_group(file: h5py.File, name: str, other: Path) -> None:
    parent = name.rpartition("/")[0]
    del file[parent]
    file[parent] = h5py.ExternalLink(other, parent)


def write_h5ad(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file["obsm/spatial"] = np.zeros((3, 2))
        file["uns/spatial/S_1/images/hires"] = np.zeros((8, 8, 3), np.uint8)


def write_patches(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 4), np.float32)
        file["coords"] = np.zeros((3, 2))


def write_challenge(path: Path) -> None:
    write_phantom(path, slides=2, spots=12)


@pytest.mark.parametrize("spoil", [external_link, raw_file, virtual, external_group])
@pytest.mark.parametrize(
    ("file", "write", "name", "read"),
    [
        ("a.h5", write_challenge, "images/Train/S_1", open_dataset),
        ("a.h5", write_challenge, "spots/Train/S_1", open_dataset),
        ("a.h5ad", write_h5ad, "uns/spatial/S_1/images/hires", open_dataset),
        ("a.h5", write_patches, "features", read_h5),
    ],
)
def test_no_hdf5_file_leads_to_another(tmp_path, file, write, name, read, spoil):
    if spoil is external_group and "/" not in name:
        pytest.skip("no group around it")
    path, other = tmp_path / file, tmp_path / f"other-{file}"
    write(path)
    write(other)
    with h5py.File(path, "r+") as opened:
        spoil(opened, name, other)
    with pytest.raises(HistoboostError, match=f"{path}: {'/'.join(name.split('/')[:2])}"):
        read(path)


def test_a_soft_link_is_followed_within_its_file(tmp_path: Path) -> None:
    path = write_phantom(tmp_path / "a.h5", slides=2, spots=12)
    before = open_dataset(path)["S_1"].image.read_rows(0, 5)
    with h5py.File(path, "r+") as file:
        file.move("images/Train/S_1", "kept")
        file["images/Train/S_1"] = h5py.SoftLink("/kept")
    np.testing.assert_array_equal(open_dataset(path)["S_1"].image.read_rows(0, 5), before)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
@pytest.mark.parametrize("format", ["EPS", "PDF", "GIF", "BMP", "TIFF", "PPM"])
def test_only_png_and_jpeg_are_decoded_under_their_names(tmp_path, suffix, format, monkeypatch):
    def started(*arguments: object, **more: object) -> None:
        raise AssertionError("another program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("subprocess.check_call", started)
    path = tmp_path / f"slide{suffix}"
    Image.new("RGB", (40, 30)).save(path, format)
    with pytest.raises(HistoboostError, match="cannot be read as an image"):
        open_image(path).read_rows(0, 3)


def test_an_ome_tiff_shows_no_pixels_of_another_file(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.full((32, 32, 3), 200, np.uint8)
    other = tmp_path / "secret" / "other.ome.tif"
    other.parent.mkdir()
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000{}"

    def write(path: Path, value: int, own: int, name: str, named: int) -> None:
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid.format(own)}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="32" SizeY="32" SizeC="3" SizeZ="1" '
            'SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0" '
            f'PlaneCount="1"><UUID FileName="{name}">{uuid.format(named)}</UUID></TiffData>'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(
            path, np.full_like(pixels, value), photometric="rgb", description=xml, metadata=None
        )

    write(other, 7, 1, "other.ome.tif", 1)
    path = tmp_path / "slide.ome.tif"
    write(path, 200, 2, "secret/other.ome.tif", 1)
    seen = open_image(path).read_rows(0, 32)
    np.testing.assert_array_equal(seen, pixels)
