"""The pixels of a slide: read once, in order, then at hand in bands of rows.

A slide that fits a byte budget stays in memory as uint8. A larger one is spooled, decoded, to an
unnamed temporary file while its digest is taken, and bands are read back from there: sources are
often compressed in chunks, and decoding them again for every batch would cost more than the
network. Temporary files go where ``TMPDIR`` says.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.slides.images.base import SlideImage

#: Decoded bytes of a slide that are kept in memory.
MEMORY_BUDGET = 512 * 2**20

#: Bytes read from the source at a time, or one of its bands where that is more.
READ_BYTES = 16 * 2**20


class SlidePixels:
    """All rows of one slide, in memory or in a temporary file.

    Use as a context manager: leaving it gives memory and file back.

    Attributes
    ----------
    height, width : int
        Of the slide, in pixels.
    digest : str
        SHA-256 of height, width and the uint8 pixels in row order.
    resident : bool
        Whether all rows are in memory.
    band_rows : int
        Rows that the budget allows to hold at a time.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        digest: str,
        band_rows: int,
        source: NDArray[np.uint8] | IO[bytes],
    ) -> None:
        self.height, self.width = shape
        self.digest = digest
        self.band_rows = band_rows
        self._array = source if isinstance(source, np.ndarray) else None
        self._file = None if isinstance(source, np.ndarray) else source

    @property
    def resident(self) -> bool:
        """Whether all rows are in memory."""
        return self._array is not None

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive), (stop - start, W, 3); a view where resident."""
        if self._array is not None:
            return self._array[start:stop]
        assert self._file is not None, "closed"
        out = np.empty((stop - start, self.width, 3), np.uint8)
        self._file.seek(start * self.width * 3)
        view = out.data.cast("B")
        filled = 0
        while filled < len(view):
            count = self._file.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                raise BadInput(
                    f"temporary file in {tempfile.gettempdir()}: shorter than written; "
                    "set TMPDIR to a sound disk"
                )
            filled += count
        return out

    def close(self) -> None:
        """Give memory and file back."""
        self._array = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> SlidePixels:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_pixels(image: SlideImage, budget: int = MEMORY_BUDGET) -> SlidePixels:
    """Read a slide once, in order.

    Parameters
    ----------
    image : SlideImage
        The slide.
    budget : int
        Decoded bytes that may be held; a larger slide is spooled to a temporary file.

    Returns
    -------
    SlidePixels

    Raises
    ------
    HistoboostError
        If pixels are not what the format promises, or the temporary file cannot be written.
    """
    height, width = image.shape
    row_bytes = width * 3
    digest = hashlib.sha256(f"{height} {width}\n".encode())
    if image.band_rows >= height:  # the source gives all rows or none
        whole = np.require(image.read_rows(0, height), requirements=["C", "W"])
        digest.update(whole.data)
        return SlidePixels((height, width), digest.hexdigest(), height, whole)
    step = image.band_rows * max(1, READ_BYTES // (image.band_rows * row_bytes))
    bands = ((first, min(first + step, height)) for first in range(0, height, step))
    if height * row_bytes <= budget:
        array = np.empty((height, width, 3), np.uint8)
        for first, last in bands:
            array[first:last] = image.read_rows(first, last)
            digest.update(array[first:last].data)
        return SlidePixels((height, width), digest.hexdigest(), height, array)
    size = height * row_bytes
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise _no_room(image, f"{free / 1e9:.1f} GB are free")
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by SlidePixels)
    try:
        for first, last in bands:
            rows = np.ascontiguousarray(image.read_rows(first, last))
            digest.update(rows.data)
            file.write(rows.data)
        file.flush()
    except OSError as error:
        file.close()
        raise _no_room(image, error.strerror or str(error)) from error
    except BaseException:
        file.close()
        raise
    return SlidePixels((height, width), digest.hexdigest(), max(1, budget // row_bytes), file)


def _no_room(image: SlideImage, reason: str) -> BadInput:
    height, width = image.shape
    return BadInput(
        f"temporary file in {tempfile.gettempdir()}: {reason}; a slide of {width} x {height} px "
        f"needs {height * width * 3 / 1e9:.1f} GB there, set TMPDIR to a larger disk"
    )
