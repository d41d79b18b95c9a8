"""Encode numbers and images as text, to embed them in an HTML file."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: JPEG quality of the slides behind the maps: cells stay visible, 1000 px take about 0.2 MB.
JPEG_QUALITY = 78


def floats(values: ArrayLike) -> str:
    """Encode as base64 of little-endian float32, the layout of a JavaScript Float32Array."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """Encode an (H, W, 3) uint8 image as a ``data:`` URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def numbers(values: ArrayLike, digits: int = 5) -> Any:
    """Round to significant digits, as nested lists for JSON; NaN and infinity become None."""
    array = np.asarray(values, dtype=float)
    if array.ndim == 0:
        number = float(array)
        return float(f"{number:.{digits}g}") if math.isfinite(number) else None
    return [numbers(row, digits) for row in array]
