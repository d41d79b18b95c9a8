"""What all sources of pixels have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError, warn

#: Bytes of a band, or one row of chunks or tiles where that is more.
BAND_BYTES = 16 * 2**20

#: More pixels than this no slide scanner makes.
MAX_PIXELS = 2**37


def band_rows(
    where: Path | str, shape: tuple[int, int], stored_rows: int, itemsize: int = 1
) -> int:
    """Rows to read at a time: `BAND_BYTES` or so, in multiples of what the file stores together.

    Raises
    ------
    HistoboostError
        If no scanner made an image of this shape, or no memory here can hold such a band.
    """
    height, width = shape
    if not 0 < height * width <= MAX_PIXELS:
        raise BadInput(
            f"{where}: declares {width} x {height} px, which no slide has; the file is damaged, "
            "fetch it again"
        )
    stored_rows = min(max(stored_rows, 1), height)
    row_bytes = width * 3 * itemsize
    rows = min(height, stored_rows * max(1, BAND_BYTES // (row_bytes * stored_rows)))
    if rows * row_bytes > _memory_bytes():
        raise BadInput(
            f"{where}: {width} x {height} px in one piece need {rows * row_bytes / 1e9:.0f} GB of "
            "memory; save it as a tiled TIFF"
        )
    return rows


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
