"""What all sources of pixels have in common."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError, warn

T = TypeVar("T")
R = TypeVar("R")

#: Bytes of a band, or one row of tiles where that is more.
BAND_BYTES = 4 * 2**20

#: Least side of what a thread decodes of a band, in pixels.
PIECE = 1024

#: More pixels than this no slide scanner makes.
MAX_PIXELS = 2**37


class Level(NamedTuple):
    """One resolution of an image: its size, and pixels of level 0 along one of its own."""

    height: int
    width: int
    downsample: float = 1.0


class SlideImage:
    """An RGB image that is read by regions, at one or several resolutions.

    Images are picklable (they hold a path, not an open file), so that a slide can be sent to
    another process, and any number of threads may read one at once.

    Attributes
    ----------
    levels : tuple of Level
        Height, width and downsample, the finest first.
    tiles : tuple of (int, int)
        For every level, rows and columns that the file stores together; regions made of them cost
        least.
    source_dtype : str
        Type of the pixels in the file, for example ``"float32"``.
    um_per_px : float or None
        Micrometres per pixel of level 0, where the file says so.
    files : tuple of Path
        Files and folders that are the image and nothing else, where it is stored in tiles: their
        bytes identify a large image, of which not every pixel is read.
    """

    levels: tuple[Level, ...]
    tiles: tuple[tuple[int, int], ...]
    source_dtype: str = "uint8"
    um_per_px: float | None = None
    files: tuple[Path, ...] = ()

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of one level, within its borders.

        Parameters
        ----------
        level : int
            Index into `levels`.
        x, y : int
            First column and first row, in pixels of that level.
        width, height : int
            In pixels of that level.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Float images in 0..1 come out as ``round(255 * value)``; where there is opacity, what
            is transparent is white.

        Raises
        ------
        HistoboostError
            If the file cannot be read, or its pixels are not what the format promises.
        """
        raise NotImplementedError

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files and folders that the pixels come from; none of pixels in memory."""
        return self.files or tuple(filter(None, [getattr(self, "path", None)]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, at level 0."""
        return self.levels[0][:2]

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) of level 0, (stop - start, W, 3) uint8."""
        return self.read_region(0, 0, start, self.shape[1], stop - start)


def paste(
    out: NDArray[np.uint8], tile: NDArray[np.uint8], top: int, left: int, size: tuple[int, int]
) -> None:
    """Lay a tile of `size`, rows and columns, on a region; what lies beyond either is cut off.

    `top` and `left`, below 0 where it begins before the region, are its corner there.
    """
    into = out[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    into[:] = tile[max(-top, 0) :, max(-left, 0) :][: into.shape[0], : into.shape[1]]


def coarsest(levels: Sequence[Level], fit: Callable[[Level], bool]) -> tuple[int, Level]:
    """The coarsest level that fits, else the finest: its number and what it is."""
    return [(at, level) for at, level in enumerate(levels) if not at or fit(level)][-1]


def bands(
    image: SlideImage, level: int = 0, multiple: int = 1
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """All pixels of a level from top to bottom: first row and (h, W, 3) uint8 of every band.

    A band takes `BAND_BYTES` or so, and has a `multiple` of rows; its tiles are decoded by as many
    threads as cores that the process may use.
    """
    height, width, _ = image.levels[level]
    rows, columns = image.tiles[level]
    fits = BAND_BYTES // (3 * width)
    step = max(multiple, max(rows * max(1, fits // rows), 1) // multiple * multiple)
    if rows >= height:  # the file gives all rows or none
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

            places = itertools.product(range(0, len(band), tall), range(0, width, wide))
            for _ in pool.map(read, places):
                pass  # what a thread raises is raised here
            yield first, band


def in_order(
    work: Callable[[T], R], items: Iterable[T], *, threads: int | None = None, ahead: int = 2
) -> Generator[R, None, None]:
    """What `work` makes of every item, in their order, by threads that run up to `ahead` ahead.

    By default there are as many threads as cores that the process may use.
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

    A downsample is a whole number where both sizes can be that of a level cut off by less than a
    pixel.
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
    """Refuse an image of `shape` in pieces of `tile`, of `itemsize` bytes a number.

    Raises
    ------
    HistoboostError
        If no scanner made such an image, or no memory here can hold such a piece.
    """
    height, width = shape
    if not 0 < height * width <= MAX_PIXELS:
        raise BadInput(
            f"{where}: declares {width} x {height} px, which no slide has; the file is damaged, "
            "fetch it again"
        )
    rows, columns = tile
    if rows * columns * 3 * itemsize > _memory_bytes():
        raise BadInput(
            f"{where}: {columns} x {rows} px in one piece need "
            f"{rows * columns * 3 * itemsize / 1e9:.0f} GB of memory; save it as a tiled TIFF"
        )


def version(path: Path) -> tuple[int, int]:
    """When a file was last written, in ns, and its bytes; of a folder the last and the sum of all.

    Raises
    ------
    OSError
        If it is not there.
    """
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
    """Where red, green, blue (and alpha) lie among channels of these names; None: no such names."""
    initials = [name.strip().lower() for name in names]
    initials = [{"red": "r", "green": "g", "blue": "b", "alpha": "a"}.get(n, n) for n in initials]
    if sorted(initials) not in (["b", "g", "r"], ["a", "b", "g", "r"]):
        return None
    return tuple(initials.index(name) for name in "rgba" if name in initials)


def over_white(pixels: NDArray[np.uint8], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """Lay (h, w, 4) pixels with opacity over white; (h, w, 3) pixels pass unchanged."""
    if pixels.shape[-1] == 3:
        return pixels
    opacity = pixels[..., 3:].astype(np.uint16)
    if premultiplied:
        mixed = np.minimum(pixels[..., :3] + (255 - opacity), 255)
    else:
        mixed = (pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return np.asarray(mixed, np.uint8)


def warn_of_orientation(path: Path, orientation: object) -> None:
    """Say that a tag which turns the image is not followed."""
    if orientation in range(2, 9):
        warn(
            f"{path}: its orientation tag ({orientation}) is not followed: the spots are taken to "
            "lie on the pixels as stored; where they do not, turn the image and save it without "
            "the tag"
        )


@contextmanager
def reading(
    where: Path | str,
    what: str = "an image",
    remedy: str = "the file is damaged or of another format, fetch it again",
) -> Iterator[None]:
    """Make one line that names `where` of whatever a library raises on a damaged file."""
    try:
        yield
    except HistoboostError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{where}: cannot be read as {what} ({reason}); {remedy}") from error
