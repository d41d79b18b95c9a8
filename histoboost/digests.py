"""SHA-256 digests of the inputs and outputs of an embedding."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of `data` (hex)."""
    return hashlib.sha256(data).hexdigest()


def digest_array(array: NDArray[Any]) -> str:
    """SHA-256 of dtype, shape and little-endian, row-major content of `array`.

    Examples
    --------
    >>> digest_array(np.zeros(2)) == digest_array(np.zeros((2, 1)))
    False
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = f"{little.dtype.name} {'x'.join(map(str, array.shape))}\n".encode()
    digest = hashlib.sha256(head)
    digest.update(little.tobytes())
    return digest.hexdigest()


def digest_spots(xy: NDArray[np.float64], spot_ids: tuple[str, ...]) -> str:
    """SHA-256 of spot coordinates, (N, 2) float64, and ids, in order."""
    text = json.dumps(list(spot_ids), ensure_ascii=False, separators=(",", ":"))
    return digest_bytes(f"{digest_array(xy)}\n{text}".encode())
