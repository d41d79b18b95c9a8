"""Write predictions as an OME-TIFF with one channel per cell type."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.io import write_whole
from histoboost.outputs.colours import type_colours
from histoboost.outputs.ids import prediction_id
from histoboost.outputs.tiles import nearest_spot
from histoboost.spots import spot_pitch

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

#: Map pixels per spot pitch: enough for the shape of a hexagon.
PER_PITCH = 4
#: Side of the tiles in the file; the last level of the pyramid fits in one tile.
_TILE = 256


def write_ome_tiff(path: Path, prediction: Prediction) -> None:
    """Write a float32 pyramid with one channel per cell type, bound and novelty.

    A map pixel covers `map_pixel` x `map_pixel` pixels of the slide, with the same upper left
    corner: viewers that use physical sizes overlay the two, others need to scale the map by that
    factor. Each pixel has the prediction of the spot whose tile it lies in, and NaN outside tiles.
    """
    import tifffile

    spots = prediction.spots
    if spots.image_shape is None:
        raise BadInput(
            f"{path}: the size of slide {spots.slide} is unknown; featurize it from its image"
        )
    side = map_pixel(spots.xy)
    shape = (math.ceil(spots.image_shape[0] / side), math.ceil(spots.image_shape[1] / side))
    spot_of_pixel = nearest_spot(spots.xy, side, shape)
    frame = prediction.numbers()
    levels = [shape]
    while max(levels[-1]) > _TILE:
        levels.append((math.ceil(levels[-1][0] / 2), math.ceil(levels[-1][1] / 2)))
    # Row -1, the last one, stands for pixels without a spot.
    values = np.vstack([frame.to_numpy(np.float32), np.full((1, frame.shape[1]), np.nan)])
    values = values.astype(np.float32)

    def planes(level: int) -> Iterator[NDArray[np.float32]]:
        for column in values.T:
            plane = column[spot_of_pixel]
            for _ in range(level):
                plane = _downsample(plane)
            yield plane

    options: dict[str, Any] = {
        "dtype": np.float32,
        "tile": (_TILE, _TILE),
        "compression": "zlib",
        "photometric": "minisblack",
    }

    full_resolution: dict[str, Any] = {
        "subifds": len(levels) - 1,
        "metadata": _metadata(prediction, list(frame.columns), side),
        "software": "histoboost",
    }

    def write(target: Path) -> None:
        size = 4 * values.shape[1] * shape[0] * shape[1]
        with tifffile.TiffWriter(target, ome=True, bigtiff=size > 2**31) as file:
            for level, (rows, columns) in enumerate(levels):
                kind = {"subfiletype": 1} if level else full_resolution
                stack = (values.shape[1], rows, columns)
                file.write(_tiles(planes(level)), shape=stack, **kind, **options)

    write_whole(path, write)


def map_pixel(xy: NDArray[np.float64]) -> int:
    """Side of a map pixel in pixels of the slide: a quarter of the spot pitch, rounded."""
    return max(1, round((spot_pitch(xy) or 1.0) / PER_PITCH))


def _metadata(prediction: Prediction, channels: list[str], side: int) -> dict[str, Any]:
    """Metadata for the OME-XML."""
    colours = type_colours(prediction.cell_types)
    um = prediction.spots.um_per_px
    size: dict[str, Any] = {}
    if um is not None:
        for axis in "XY":
            size |= {f"PhysicalSize{axis}": side * um, f"PhysicalSize{axis}Unit": "µm"}
    return {
        "axes": "CYX",
        "UUID": str(prediction_id(prediction)),
        "Name": prediction.slide,
        "Description": f"histoboost: {prediction.units} of cell types. A pixel is {side} x {side} "
        "pixels of the slide; upper left corners coincide. NaN: not predicted.",
        "Channel": {
            "Name": channels,
            "Color": [_rgba(*colours.get(name, (255, 255, 255))) for name in channels],
        },
        **size,
    }


def _rgba(red: int, green: int, blue: int) -> int:
    """Encode a colour for OME-XML: opaque RGBA as a signed 32-bit integer."""
    return (red << 24 | green << 16 | blue << 8 | 255) - (2**32 if red > 127 else 0)


def _downsample(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of 2 x 2 pixels, ignoring NaN."""
    rows, columns = plane.shape
    even = np.pad(plane, ((0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    known = np.isfinite(blocks)
    with np.errstate(invalid="ignore"):
        means = np.where(known, blocks, 0).sum(axis=(1, 3)) / known.sum(axis=(1, 3))
    return np.asarray(means, np.float32)


def _tiles(planes: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Cut each plane into tiles, row by row, padded with NaN."""
    for plane in planes:
        for top in range(0, plane.shape[0], _TILE):
            for left in range(0, plane.shape[1], _TILE):
                tile = np.full((_TILE, _TILE), np.nan, np.float32)
                part = plane[top : top + _TILE, left : left + _TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile
