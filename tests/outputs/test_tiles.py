"""The lattice of spots as tiles of a map."""

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
def test_tiles_of_a_lattice_cover_it_without_gap_or_overlap(xy, sides: int, degrees: float):
    xy = turned(xy, degrees)
    outline = Tile.of(xy).outline
    assert len(outline) == sides
    tiles = [shapely.Polygon(outline + each) for each in xy]
    whole = shapely.unary_union([tile.buffer(1e-6) for tile in tiles])
    assert whole.area == pytest.approx(sum(tile.area for tile in tiles), rel=1e-4)
    assert not whole.interiors


def test_a_jittered_lattice_keeps_its_tiles():
    xy = hexagonal(8, 8) + np.random.default_rng(0).normal(0, 0.05 * PITCH, (64, 2))
    assert len(Tile.of(xy).outline) == 6


@pytest.mark.parametrize("xy", [np.zeros((1, 2)), np.random.default_rng(0).random((40, 2)) * 99])
def test_places_without_a_lattice_are_discs(xy):
    assert len(Tile.of(xy).outline) == 24


def test_a_pixel_belongs_to_the_tile_that_it_lies_in():
    xy, side = hexagonal(5, 6), 3.0
    tile = Tile.of(xy)
    found = nearest_spot(xy, tile.reach, side, (60, 70))
    for spot in (0, 13):
        shape = shapely.Polygon(tile.outline + xy[spot])
        rows, columns = np.nonzero(found == spot)
        if spot == 13:  # others around it
            assert len(rows) * side**2 == pytest.approx(shape.area, rel=0.15)
        places = shapely.points((columns + 0.5) * side, (rows + 0.5) * side)
        assert (shapely.distance(shape, places) < 0.2 * PITCH).all()
    assert found[0, 0] == found[-1, -1] == -1
