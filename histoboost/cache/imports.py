"""Take embeddings that were made elsewhere into a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.digests import digest_array, digest_spots
from histoboost.cache.layout import FORMAT_VERSION
from histoboost.cache.recipe import Recipe
from histoboost.cache.spots import SpotTable
from histoboost.errors import HistoboostError


def import_recipe(array: NDArray[np.float16], table: SpotTable) -> Recipe:
    """Identity of an embedding made elsewhere: its numbers, and the spots they belong to."""
    return Recipe(
        {
            "source": "import",
            "array": digest_array(array),
            "spots": digest_spots(table.xy, table.spot_ids),
            "width": int(array.shape[1]),
            "dtype": "float16",
            "format_version": FORMAT_VERSION,
        }
    )


def read_arrays(directory: Path, spots: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """The arrays in ``directory/<slide>.npy``, (N, D) each, mapped into memory.

    Parameters
    ----------
    directory : Path
        Folder with one file for each slide, and none for any other.
    spots : mapping
        Name to number of spots of every slide.

    Raises
    ------
    HistoboostError
        If a slide has no file or a file no slide, or an array does not fit.
    """
    if not directory.is_dir():
        raise HistoboostError(f"{directory}: no such folder; give the one with <slide>.npy files")
    files = {path.stem: path for path in sorted(directory.glob("*.npy"))}
    unknown = sorted(files.keys() - spots.keys())
    if unknown:
        known = ", ".join(spots) or "none"
        raise HistoboostError(f"{files[unknown[0]]}: no slide {unknown[0]!r}; there are {known}")
    lacking = [slide for slide in spots if slide not in files]
    if lacking:
        raise HistoboostError(f"{directory}: no {lacking[0]}.npy; every slide needs a file")
    arrays = {slide: _load(files[slide]) for slide in spots}
    width = next((array.shape[1] for array in arrays.values() if array.ndim == 2), 0)
    for slide, array in arrays.items():
        expected = (spots[slide], width)
        if array.ndim != 2 or array.shape != expected or width == 0:
            raise HistoboostError(
                f"{files[slide]}: has shape {array.shape}, not {expected}; "
                "give one row per spot, in the order of the store"
            )
    return arrays


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise HistoboostError(f"{path}: not a NumPy array file ({error})") from error
    if array.dtype.kind not in "fiu":
        raise HistoboostError(f"{path}: holds {array.dtype}; numbers are needed")
    return array
