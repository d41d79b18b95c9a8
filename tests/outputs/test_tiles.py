"""Tiles of a map."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from histoboost.outputs.tiles import Tile, nearest_spot

PITCH = 20.0
SQUARE = PITCH * np.stack(np.meshgrid(np.arange(7.0), np.arange(6.0)), axis=-1).reshape(-1, 2)


def hexagonal(rows: int, columns: int) -> np.ndarray:
    row, column = np.divmod(np.arange(rows * columns), columns)
    return PITCH * (2 + np.stack([column + (row % 2) / 2, row * np.sqrt(0.75)], axis=1))


def turned(xy: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return xy @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, -31])
@pytest.mark.parametrize(("xy", "sides"), [(hexagonal(6, 7), 6), (SQUARE, 4)])
def test_tiles_cover_a_lattice_without_gaps_or_overlap(xy, sides, degrees):
    xy = turned(xy, degrees)
    outline = Tile.from_spots(xy).outline
    assert len(outline) == sides
    tiles = [shapely.Polygon(outline + each) for each in xy]
    whole = shapely.unary_union([tile.buffer(1e-6) for tile in tiles])
    assert whole.area == pytest.approx(sum(tile.area for tile in tiles), rel=1e-4)
    assert not whole.interiors


def test_tiles_of_a_jittered_lattice_stay_hexagons():
    xy = hexagonal(8, 8) + np.random.default_rng(0).normal(0, 0.05 * PITCH, (64, 2))
    assert len(Tile.from_spots(xy).outline) == 6


@pytest.mark.parametrize("xy", [np.zeros((1, 2)), np.random.default_rng(0).random((40, 2)) * 99])
def test_spots_without_a_lattice_are_discs(xy):
    assert len(Tile.from_spots(xy).outline) == 24


@pytest.mark.parametrize("xy", [hexagonal(5, 6), turned(SQUARE, 20) + [70, 20]])
def test_each_pixel_gets_the_spot_of_its_tile(xy):
    side, corner = 1.7, np.array([11.0, 5.0])
    found = nearest_spot(xy, side, (110, 130), corner)
    outline = Tile.from_spots(xy).outline
    rows, columns = np.indices(found.shape)
    places = np.stack([columns, rows], axis=-1) * side + side / 2 + corner
    for spot in range(len(xy)):
        shape = shapely.Polygon(outline + xy[spot])
        expected = shapely.contains_xy(shape, places[..., 0], places[..., 1])
        assert (found[expected] == spot).mean() > 0.99
        assert (found[shapely.distance(shape, shapely.points(places)) > 0.05 * PITCH] != spot).all()
    assert (found == -1).any()
