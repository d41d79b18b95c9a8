"""Predictions as OME-TIFF, read with tifffile and ome-types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import ome_types
import pytest
import tifffile

from histoboost.errors import HistoboostError
from histoboost.outputs.colours import type_colours
from histoboost.outputs.ome_tiff import map_pixel, write_ome_tiff


def test_the_description_names_channels_sizes_and_units(tmp_path, mapped):
    path = tmp_path / "S_1.ome.tif"
    names = ("T cell", 'a<b>&"c" µ {x}', "C/D")
    write_ome_tiff(path, replace(mapped[0], cell_types=names))
    [image] = ome_types.from_tiff(path).images
    assert image.name == "S_1"
    assert [channel.name for channel in image.pixels.channels] == [*names, "novelty"]
    side = map_pixel(mapped[0].spots.xy)
    assert side == 5
    assert image.pixels.physical_size_x == image.pixels.physical_size_y == side * 0.5
    assert image.pixels.physical_size_x_unit.value == "µm"
    assert "A pixel is 5 x 5 pixels of the slide" in image.description
    for name, channel in zip(names, image.pixels.channels, strict=False):
        assert channel.color.as_rgb_tuple(alpha=False) == type_colours(names)[name]


def test_map_pixels_are_at_the_positions_of_their_spots(tmp_path, mapped):
    path, prediction = tmp_path / "S_1.ome.tif", mapped[0]
    write_ome_tiff(path, prediction)
    pixels = tifffile.imread(path)
    height, width = prediction.spots.image_shape
    assert pixels.dtype == np.float32
    assert pixels.shape == (4, -(-height // 5), -(-width // 5))
    column, row = (prediction.spots.xy // 5).astype(int).T
    np.testing.assert_array_equal(pixels[:3, row, column], prediction.values.T.astype(np.float32))
    np.testing.assert_array_equal(pixels[3, row, column], prediction.novelty.astype(np.float32))
    assert np.isnan(pixels[:, 0, 0]).all()


def test_a_large_map_has_a_pyramid_of_means(tmp_path, mapped):
    path, spots = tmp_path / "S_1.ome.tif", mapped[0].spots
    spots = replace(spots, image_shape=(1501, 3002))
    write_ome_tiff(path, replace(mapped[0], spots=spots))
    with tifffile.TiffFile(path) as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert file.pages[0].is_tiled
    assert len(levels) > 1
    assert max(levels[-1].shape) <= 256
    for fine, coarse in zip(levels, levels[1:], strict=False):
        rows, columns = fine.shape[1] // 2, fine.shape[2] // 2
        blocks = fine[:, : 2 * rows, : 2 * columns].reshape(len(fine), rows, 2, columns, 2)
        assert coarse.shape[1:] == (-(-fine.shape[1] // 2), -(-fine.shape[2] // 2))
        known = ~np.isnan(blocks).all(axis=(2, 4))
        inner = coarse[:, :rows, :columns]
        np.testing.assert_array_equal(np.isnan(inner), ~known)
        expected = np.nanmean(blocks.transpose(0, 1, 3, 2, 4)[known].reshape(-1, 4), axis=1)
        np.testing.assert_allclose(inner[known], expected, rtol=1e-5)


def test_the_same_prediction_gives_the_same_file(tmp_path, mapped):
    for name in ("one", "two"):
        write_ome_tiff(tmp_path / f"{name}.ome.tif", mapped[0])
    assert (tmp_path / "one.ome.tif").read_bytes() == (tmp_path / "two.ome.tif").read_bytes()


def test_an_unknown_scale_stays_unknown(tmp_path, mapped):
    path = tmp_path / "S_1.ome.tif"
    write_ome_tiff(path, replace(mapped[0], spots=replace(mapped[0].spots, um_per_px=None)))
    assert ome_types.from_tiff(path).images[0].pixels.physical_size_x is None


def test_a_slide_of_unknown_size_is_refused(tmp_path, mapped):
    path = tmp_path / "S_1.ome.tif"
    spots = replace(mapped[0].spots, image_shape=None, thumbnail=None)
    with pytest.raises(HistoboostError, match="size of slide S_1 is unknown; featurize"):
        write_ome_tiff(path, replace(mapped[0], spots=spots))
    assert not path.exists()
