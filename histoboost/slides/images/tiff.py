"""TIFF files with strips, tiles or pyramids, by tifffile."""

from __future__ import annotations

import itertools
import logging
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, MissingExtra
from histoboost.slides.images.base import (
    FileImage,
    check_size,
    over_white,
    paste,
    pyramid,
    reading,
    rgb_order,
    version,
    warn_of_orientation,
)
from histoboost.slides.scale import checked_scale

#: Only the given file is read, though OME metadata may name others.
ALONE: dict[str, Any] = {"_multifile": False}

#: Values of the tags for colours, compression and extra samples.
MINISBLACK, RGB, YCBCR = 1, 2, 6
JPEG = (6, 7)
ASSOCIATED, UNASSOCIATED = 1, 2

#: Aperio's JPEG 2000 in YCbCr, which no tag states, but OpenSlide knows.
APERIO_YCBCR = 33003

#: Most pixels of a tile; scanners write 2**16.
MAX_TILE = 2**26

#: Units of OME in micrometres; with a micro sign or a Greek mu.
UM = {"\xb5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True, kw_only=True)
class TiffImage(FileImage):
    """The first image of a TIFF file, with its coarser levels; missing tiles are white.

    `premultiplied` tells whether colours are multiplied by their opacity. `um_per_px` comes from
    OME or Aperio metadata, not from resolution tags, which most writers leave at 72 dpi.
    """

    premultiplied: bool

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `SlideImage`."""
        with reading(self.path):
            pages = _parse(self.path, *version(self.path)).levels[level]
            samples = len(pages) if len(pages) > 1 else pages[0].keyframe.samplesperpixel
            out = np.full((height, width, samples), 255, np.uint8)
            with self.path.open("rb") as file:
                for at, page in enumerate(pages):
                    target = out[..., at : at + 1] if len(pages) > 1 else out
                    _fill(target, page, file, x, y)
        return over_white(out, premultiplied=self.premultiplied)


def open_tiff(path: Path) -> TiffImage:
    """Open a TIFF file: plain, BigTIFF, OME, Aperio's or another pyramid, in 8-bit RGB."""
    try:
        load_tifffile()
    except ImportError as error:
        raise MissingExtra(str(path), "tifffile", "wsi") from error
    path = path.resolve()
    with reading(path):
        found = _parse(path, *version(path))
        page = found.levels[0][0].keyframe
        frames = [one[0].keyframe for one in found.levels]
        shapes = [(int(frame.imagelength), int(frame.imagewidth)) for frame in frames]
        tiles = tuple(map(_tile, frames))
        orientation = int(page.tags.valueof(274, 1))
        colours = _colours(page, found.names)
        pages = itertools.chain(*found.levels)
        counts = [(len(one.dataoffsets), math.prod(one.keyframe.chunked)) for one in pages]
    if found.axes not in ("YXS", "YXC", "SYX", "CYX") or found.dtype != np.uint8:
        raise BadInput(
            f"{path}: stores {found.dtype} with axes {found.axes} of lengths {found.shape}; "
            "an H&E image must be 8-bit RGB"
        )
    samples = found.shape[found.axes.index("S" if "S" in found.axes else "C")]
    if colours is not None or samples not in (3, 4):
        raise BadInput(f"{path}: stores {colours or f'{samples} channels'}; save it as 8-bit RGB")
    for there, expected in counts:
        if there < expected:
            raise BadInput(
                f"{path}: has {there} of the {expected} strips or tiles of {found.shape}; the file "
                "is damaged, fetch it again"
            )
    check_size(path, shapes[0], tiles[0])
    if page.is_tiled:
        check_tile(path, max(math.prod(tile) for tile in tiles))
    warn_of_orientation(path, orientation)
    return TiffImage(
        path=path,
        levels=pyramid(shapes),
        tiles=tiles,
        um_per_px=checked_scale(found.um, path),
        premultiplied=ASSOCIATED in page.extrasamples,
        files=(path,) if page.is_tiled else (),
    )


def opens_as_tiff(path: Path) -> bool:
    """Whether tifffile can decode the tiles of a whole-slide file."""
    try:
        with load_tifffile().TiffFile(path, **ALONE) as tiff:
            page = tiff.series[0].levels[0].keyframe
            codecs = load_tifffile().TIFF.DECOMPRESSORS
            known = page.compression != APERIO_YCBCR and page.compression in codecs
            return bool(page.is_tiled and known and _colours(page, []) is None)
    except Exception:  # noqa: BLE001  (OpenSlide will report what is wrong)
        return False


def check_tile(path: Path, pixels: int) -> None:
    """Refuse implausibly large tiles."""
    if pixels > MAX_TILE:
        raise BadInput(
            f"{path}: declares tiles of {pixels} px; the file is damaged, fetch it again"
        )


def load_tifffile() -> Any:
    """Import tifffile and silence its log: exceptions carry the message."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return tifffile


@dataclass(frozen=True)
class _Parsed:
    """Content of the tags; each level has one page, or one for every channel."""

    levels: tuple[tuple[Any, ...], ...]
    axes: str
    shape: tuple[int, ...]
    dtype: Any
    um: float | None
    names: list[str]


@lru_cache(maxsize=4)
def _parse(path: Path, modified: int, size: int) -> _Parsed:
    """Read the tags of this version of a file once."""
    with load_tifffile().TiffFile(path, **ALONE) as tiff:
        series = tiff.series[0]
        levels = [tuple(level.pages) for level in series.levels if level.axes == series.axes]
        for page in itertools.chain(*levels):
            # Loaded now, while the file is open: tifffile reads long tags lazily.
            _ = page.dataoffsets, page.databytecounts, page.keyframe.decode, page.jpegtables
        um, names = _ome(tiff.ome_metadata) if tiff.is_ome else (None, [])
        if tiff.is_svs and (aperio := re.search(r"\bMPP = ([\d.]+)", tiff.pages[0].description)):
            um = float(aperio[1])
        return _Parsed(tuple(levels), series.axes, tuple(series.shape), series.dtype, um, names)


def _tile(page: Any) -> tuple[int, int]:
    """Rows and columns that a page stores together."""
    page = page.keyframe
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    rows = int(page.imagelength)
    return min(int(page.rowsperstrip or rows), rows), int(page.imagewidth)


def _fill(out: NDArray[np.uint8], page: Any, file: Any, x: int, y: int) -> None:
    """Copy the pixels of a page from column `x` and row `y` on into `out` (h, w, samples)."""
    (rows, columns), frame = _tile(page), page.keyframe
    across, down = -(-frame.imagewidth // columns), -(-frame.imagelength // rows)
    height, width = out.shape[:2]
    if not out.size:
        return
    planes = out.shape[-1] if int(frame.planarconfig) == 2 else 1
    for plane, row, column in itertools.product(
        range(planes),
        range(y // rows, -(-(y + height) // rows)),
        range(x // columns, -(-(x + width) // columns)),
    ):
        index = (plane * down + row) * across + column
        if not page.databytecounts[index]:
            continue
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        tile = frame.decode(data, index, jpegtables=page.jpegtables)[0][0]
        if planes > 1:
            target, tile = out[..., plane], tile[..., 0]
        else:
            target = out
        paste(target, tile, row * rows - y, column * columns - x, (rows, columns))


def _colours(page: Any, names: list[str]) -> str | None:
    """Describe what a page stores if that is not RGB or RGBA, else None."""
    kind = int(page.photometric)
    named_rgb = kind == MINISBLACK and rgb_order(names) == (0, 1, 2)
    # JPEG decoders return RGB whatever the file stores.
    decoded = kind == YCBCR and int(page.compression) in JPEG
    if kind != RGB and not named_rgb and not decoded:
        return f"colours as {getattr(page.photometric, 'name', kind)}"
    extra = [int(sample) for sample in page.extrasamples]
    if not named_rgb and page.samplesperpixel > 3 and extra not in ([ASSOCIATED], [UNASSOCIATED]):
        return "a fourth channel that is not opacity"
    return None


def _ome(metadata: str | None) -> tuple[float | None, list[str]]:
    """Micrometres per pixel (or None) and names of the channels from OME metadata."""
    try:
        image = load_tifffile().xml2dict(metadata or "")["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    except (KeyError, TypeError, ValueError, SyntaxError):
        return None, []
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = [str(channel.get("Name", "")) for channel in channels]
    try:
        size = float(pixels["PhysicalSizeX"]) * UM[pixels.get("PhysicalSizeXUnit", "\xb5m")]
    except (KeyError, TypeError, ValueError):
        return None, names
    return size, names
