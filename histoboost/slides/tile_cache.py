"""Digests of slides, and access to their pixels in memory or by cached tiles.

Small slides are decoded once as a whole and identified by their pixels, whatever the file. Large
slides are decoded by regions and identified by the bytes of their files.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import Level, SlideImage, bands, paste
from histoboost.slides.thumbnail import shrunk

#: Most decoded bytes of a small slide.
SMALL = 512 * 2**20

#: Decoded bytes of a large slide to cache; at least eight tiles.
CACHE_BYTES = 32 * 2**20

#: Bytes of the overview of a large slide that has only one level.
OVERVIEW_BYTES = 96 * 2**20

#: Least side of a cached tile, in pixels.
BLOCK = 256

#: Prefix of the digest of a large slide.
OF_FILES = "file:"


def read_pixels(image: SlideImage, digest: str | None = None) -> tuple[SlideImage, str]:
    """Prepare the pixels of a slide for cutting patches, and identify them.

    Returns a small slide in memory at full resolution, a large one as a `TileCache`, and its
    digest: of a small slide, or one not stored in tiles, the SHA-256 of height, width and the uint8
    pixels in row order; else that of its files, after `OF_FILES`. `digest` is that of a large slide
    if known already.
    """
    if is_small(image):
        whole = _whole(image)
        return whole, decoded_digest(whole)
    if digest is None:
        digest = _digest_files(image.files) if image.files else decoded_digest(image)
    return TileCache(image), digest


def is_small(image: SlideImage) -> bool:
    """Whether to hold a slide in memory, as a single tile always is."""
    height, width = image.shape
    return 3 * height * width <= SMALL or image.tiles[0] == image.shape


def levels_cut(image: SlideImage) -> tuple[Level, ...]:
    """Levels from which to cut patches: all of a large slide, the finest of a small one."""
    return image.levels[:1] if is_small(image) else image.levels


def decoded_digest(image: SlideImage) -> str:
    """SHA-256 of height, width and all uint8 pixels in row order."""
    digest = hashlib.sha256("{} {}\n".format(*image.shape).encode())
    for _, rows in bands(image):
        digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _digest_files(files: tuple[Path, ...]) -> str:
    """SHA-256 of the bytes of files, and of all files in folders with their names."""
    digest = hashlib.sha256()
    for top in files:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                if path != top:
                    digest.update(f"{path.relative_to(top).as_posix()}\n".encode())
                with path.open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)
    return OF_FILES + digest.hexdigest()


def _whole(image: SlideImage) -> ArrayImage:
    if isinstance(image, ArrayImage):
        return image
    height, width = image.shape
    if image.tiles[0] == image.shape:
        return ArrayImage(image.read_region(0, 0, 0, width, height), image.source_dtype)
    whole = np.empty((height, width, 3), np.uint8)
    for top, rows in bands(image):
        whole[top : top + len(rows)] = rows
    return ArrayImage(whole, image.source_dtype)


class Overview(SlideImage):
    """A large slide of one level with a coarser one added, for which it is read once."""

    def __init__(self, image: SlideImage) -> None:
        height, width = image.shape
        factor = math.ceil(math.sqrt(3 * height * width / OVERVIEW_BYTES))
        self._image, self._small = image, shrunk(image, 0, factor)
        self.levels = (
            image.levels[0],
            Level(len(self._small), self._small.shape[1], float(factor)),
        )
        self.tiles = (image.tiles[0], self._small.shape[:2])

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of one level, see `SlideImage`."""
        if level:
            return self._small[y : y + height, x : x + width]
        return self._image.read_region(0, x, y, width, height)


class TileCache(SlideImage):
    """An image with a thread-safe cache of `budget` bytes of the tiles used last."""

    def __init__(self, image: SlideImage, budget: int = CACHE_BYTES) -> None:
        self._image = image
        self.levels, self.source_dtype = image.levels, image.source_dtype
        self.tiles = tuple(
            (min(level.height, rows * -(-BLOCK // rows)), min(level.width, w * -(-BLOCK // w)))
            for level, (rows, w) in zip(image.levels, image.tiles, strict=True)
        )
        self._left = max(budget, 8 * 3 * max(rows * columns for rows, columns in self.tiles))
        self._kept: OrderedDict[tuple[int, int, int], Future[NDArray[np.uint8]]] = OrderedDict()
        self._lock = threading.Lock()

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of one level, see `SlideImage`."""
        out = np.empty((height, width, 3), np.uint8)
        rows, columns = self.tiles[level]
        for top, left in itertools.product(
            range(y - y % rows, y + height, rows), range(x - x % columns, x + width, columns)
        ):
            paste(out, self._tile(level, top, left), top - y, left - x, (rows, columns))
        return out

    def _tile(self, level: int, top: int, left: int) -> NDArray[np.uint8]:
        key = level, top, left
        with self._lock:
            mine = key not in self._kept
            found = self._kept.setdefault(key, Future())
            self._kept.move_to_end(key)
        if mine:
            (rows, columns), size = self.tiles[level], self.levels[level]
            width, height = min(columns, size.width - left), min(rows, size.height - top)
            try:
                tile = self._image.read_region(level, left, top, width, height)
            except BaseException as error:
                with self._lock:
                    del self._kept[key]
                found.set_exception(error)
                raise
            with self._lock:
                self._left -= tile.nbytes
                found.set_result(tile)
                while self._left < 0 and (old := next(iter(self._kept))) != key:
                    if not self._kept[old].done():
                        break
                    self._left += self._kept.pop(old).result().nbytes
        return found.result()
