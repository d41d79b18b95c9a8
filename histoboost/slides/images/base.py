"""The interface of slide images, and helpers to read them."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError, warn

T = TypeVar("T")
R = TypeVar("R")

#: Bytes of a band, but at least one row of tiles.
BAND_BYTES = 4 * 2**20

#: Least side of the part of a band that one thread decodes, in pixels.
PIECE = 1024

#: Most pixels that a slide scanner produces.
MAX_PIXELS = 2**37


class Level(NamedTuple):
    """One resolution of an image: its size, and its pixel width in pixels of level 0."""

    height: int
    width: int
    downsample: float = 1.0


class SlideImage:
    """An RGB image that is read by regions, at one or several resolutions.

    Images are picklable (they hold a path, not an open file) and thread-safe.
    """

    #: Height, width and downsample of every level, the finest first.
    levels: tuple[Level, ...]
    #: Rows and columns that the file stores together, per level; the fastest to read.
    tiles: tuple[tuple[int, int], ...]
    #: Type of the pixels in the file, for example ``"float32"``.
    source_dtype: str = "uint8"
    #: Micrometres per pixel of level 0 from the metadata.
    um_per_px: float | None = None
    #: Files and folders of an image stored in tiles: if it is large, their bytes identify it.
    files: tuple[Path, ...] = ()

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a rectangle of one level, which must lie within the level.

        Parameters
        ----------
        level : int
            Index into `levels`.
        x, y, width, height : int
            First column, first row and size, in pixels of that level.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Floats in 0..1 become ``round(255 * value)``; transparent pixels become white.
        """
        raise NotImplementedError

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files and folders of the image; empty for pixels in memory."""
        return self.files or tuple(filter(None, [getattr(self, "path", None)]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0 in pixels."""
        return self.levels[0][:2]

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Read rows `start` to `stop` (exclusive) of level 0, (stop - start, W, 3) uint8."""
        return self.read_region(0, 0, start, self.shape[1], stop - start)


@dataclass(frozen=True, kw_only=True)
class FileImage(SlideImage):
    """An image in a file or folder."""

    path: Path
    levels: tuple[Level, ...]
    tiles: tuple[tuple[int, int], ...]
    um_per_px: float | None = None
    files: tuple[Path, ...] = ()


def paste(
    out: NDArray[np.uint8], tile: NDArray[np.uint8], top: int, left: int, size: tuple[int, int]
) -> None:
    """Copy a tile of `size` (rows, columns) into a region, cropped to both.

    `top` and `left`, which may be negative, are its corner in the region.
    """
    into = out[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    into[:] = tile[max(-top, 0) :, max(-left, 0) :][: into.shape[0], : into.shape[1]]


def coarsest(levels: Sequence[Level], fit: Callable[[Level], bool]) -> tuple[int, Level]:
    """Index and size of the coarsest level that fits, else of the finest."""
    return [(at, level) for at, level in enumerate(levels) if not at or fit(level)][-1]


def bands(
    image: SlideImage, level: int = 0, multiple: int = 1
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Iterate over the pixels of a level in bands: first row and (h, W, 3) uint8.

    A band has about `BAND_BYTES` and a `multiple` of rows; all available cores decode its tiles.
    """
    height, width, _ = image.levels[level]
    rows, columns = image.tiles[level]
    fits = BAND_BYTES // (3 * width)
    step = max(multiple, max(rows * max(1, fits // rows), 1) // multiple * multiple)
    if rows >= height:  # the file can only be read as a whole
        step = max(1, fits // multiple) * multiple
        whole = image.read_region(level, 0, 0, width, height)
        yield from ((top, whole[top : top + step]) for top in range(0, height, step))
        return
    tall, wide = rows * -(-PIECE // rows), columns * -(-PIECE // columns)
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        for first in range(0, height, step):
            last = min(first + step, height)
            band = np.empty((last - first, width, 3), np.uint8)

            def read(
                at: tuple[int, int], band: NDArray[np.uint8] = band, first: int = first
            ) -> None:
                (top, left), into = at, band[at[0] : at[0] + tall, at[1] : at[1] + wide]
                into[:] = image.read_region(level, left, first + top, into.shape[1], len(into))

            corners = itertools.product(range(0, len(band), tall), range(0, width, wide))
            for _ in pool.map(read, corners):
                pass  # errors in threads are raised here
            yield first, band


def in_order(
    work: Callable[[T], R], items: Iterable[T], *, threads: int | None = None, ahead: int = 2
) -> Generator[R, None, None]:
    """Map `work` over items with threads, in order, at most `ahead` items in advance.

    Uses all available cores by default.
    """
    with ThreadPoolExecutor(threads or joblib.cpu_count()) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def pyramid(shapes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels of these heights and widths, the finest first.

    Downsamples are integers where both sizes agree with one to within a pixel.
    """
    height, width = shapes[0]
    levels = []
    for rows, columns in shapes:
        factor = (height / rows + width / columns) / 2
        whole = round(factor)
        exact = abs(height / whole - rows) < 1 and abs(width / whole - columns) < 1
        levels.append(Level(rows, columns, float(whole) if exact else factor))
    return tuple(levels)


def check_size(
    where: Path | str, shape: tuple[int, int], tile: tuple[int, int], itemsize: int = 1
) -> None:
    """Refuse an implausibly large image, or one with tiles larger than the memory."""
    height, width = shape
    if not 0 < height * width <= MAX_PIXELS:
        raise BadInput(
            f"{where}: declares {width} x {height} px, which is implausible; the file is damaged, "
            "fetch it again"
        )
    rows, columns = tile
    if rows * columns * 3 * itemsize > _memory_bytes():
        raise BadInput(
            f"{where}: {columns} x {rows} px in one piece need "
            f"{rows * columns * 3 * itemsize / 1e9:.0f} GB of memory; save it as a tiled TIFF"
        )


def version(path: Path) -> tuple[int, int]:
    """Last modification in ns and bytes of a file, or of all files of a folder."""
    status = [path.stat()]
    if path.is_dir():
        status = [one.stat() for one in path.rglob("*") if one.is_file()]
    return max((s.st_mtime_ns for s in status), default=0), sum(s.st_size for s in status)


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")


def rgb_order(names: Sequence[str]) -> tuple[int, ...] | None:
    """Positions of red, green, blue (and alpha) among named channels; None if they are others."""
    initials = [name.strip().lower() for name in names]
    initials = [{"red": "r", "green": "g", "blue": "b", "alpha": "a"}.get(n, n) for n in initials]
    if sorted(initials) not in (["b", "g", "r"], ["a", "b", "g", "r"]):
        return None
    return tuple(initials.index(name) for name in "rgba" if name in initials)


def over_white(pixels: NDArray[np.uint8], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """Blend RGBA pixels (h, w, 4) over white; RGB (h, w, 3) passes unchanged."""
    if pixels.shape[-1] == 3:
        return pixels
    opacity = pixels[..., 3:].astype(np.uint16)
    if premultiplied:
        mixed = np.minimum(pixels[..., :3] + (255 - opacity), 255)
    else:
        mixed = (pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return np.asarray(mixed, np.uint8)


def warn_of_orientation(path: Path, orientation: object) -> None:
    """Warn about an orientation tag, which is ignored."""
    if orientation in range(2, 9):
        warn(
            f"{path}: its orientation tag ({orientation}) is ignored: spots refer to the pixels as "
            "stored; if yours do not, turn the image and save it without the tag"
        )


@contextmanager
def reading(
    where: Path | str,
    what: str = "an image",
    remedy: str = "the file is damaged or of another format, fetch it again",
) -> Iterator[None]:
    """Turn any exception of a library into one line that names `where`."""
    try:
        yield
    except HistoboostError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{where}: cannot be read as {what} ({reason}); {remedy}") from error
