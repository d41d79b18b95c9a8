"""What all sources of pixels have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError

#: Bytes of a band, or one row of chunks or tiles where that is more.
BAND_BYTES = 16 * 2**20


def band_rows(height: int, stored_rows: int, row_bytes: int) -> int:
    """Rows to read at a time: `BAND_BYTES` or so, in multiples of what the file stores together."""
    return min(height, stored_rows * max(1, BAND_BYTES // (row_bytes * stored_rows)))


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (h, w, 4) pixels with opacity over white; (h, w, 3) pixels pass unchanged."""
    if pixels.shape[-1] == 3:
        return pixels
    opacity = pixels[..., 3:].astype(np.uint16)
    mixed = (pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed.astype(np.uint8)


@contextmanager
def reading(where: Path | str) -> Iterator[None]:
    """Make one line that names `where` of whatever a decoder raises on a damaged file."""
    try:
        yield
    except HistoboostError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"{where}: cannot be read as an image ({reason}); the file is damaged or of another "
            "format, fetch it again"
        ) from error
