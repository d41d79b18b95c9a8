"""Import embeddings computed by other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.embedding_writer import round_to_float16
from histoboost.cache.layout import FORMAT_VERSION
from histoboost.cache.patch_files import read_h5, read_pt
from histoboost.cache.patch_stores import read_zarr
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_array, digest_spots
from histoboost.errors import BadInput
from histoboost.io import read_array
from histoboost.spots import SpotTable

#: Largest rms rounding error of float16, as a share of a feature's standard deviation.
MAX_ROUNDING = 0.1
#: Supported files.
SUFFIXES = (".npy", ".h5", ".pt", ".zarr")


def read_arrays(
    directory: Path, tables: Mapping[str, SpotTable], name: str = ""
) -> dict[str, tuple[NDArray[np.float16], Recipe]]:
    """Read ``directory/<slide>.npy`` (or another suffix): arrays (N, D) with their recipes.

    `tables` maps every slide to its spots. There must be exactly one file per slide, in slide2vec's
    output in the subfolder ``tile_embeddings``. Rows of an ``.npy`` file are in the store's order;
    all other files are matched to spots, see `patch_files` (``.h5``, ``.pt``) and `patch_stores`
    (``.zarr``, ``.embeddings.zarr``), where `name` selects one of several embeddings.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such folder; give the one with <slide>.npy files")
    files: dict[str, Path] = {}
    if (directory / "tile_embeddings").is_dir():
        directory = directory / "tile_embeddings"
    for path in sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES):
        slide = path.stem.removesuffix(".embeddings") if path.suffix == ".zarr" else path.stem
        if slide in files:
            raise BadInput(
                f"{path}: second file of slide {slide}, see {files[slide].name}; keep one"
            )
        files[slide] = path
    unknown = sorted(files.keys() - tables.keys())
    if unknown:
        known = ", ".join(tables) or "none"
        raise BadInput(f"{files[unknown[0]]}: no slide {unknown[0]!r}; available: {known}")
    missing = [slide for slide in tables if slide not in files]
    if missing:
        kinds = ", ".join(SUFFIXES[1:-1])
        raise BadInput(
            f"{directory}: no {missing[0]}.npy, {kinds} or {SUFFIXES[-1]}; give one file per slide"
        )
    arrays = {slide: _read(files[slide], table, name) for slide, table in tables.items()}
    width = next((array.shape[1] for array in arrays.values() if array.ndim == 2), 0)
    found = {}
    for slide, array in arrays.items():
        expected = (len(tables[slide]), width)
        if array.shape != expected or width == 0:
            raise BadInput(
                f"{files[slide]}: has shape {array.shape}, not {expected}; "
                "give one row per spot, in the order of the store"
            )
        half = _to_float16(array, tables[slide], files[slide])
        _check_rounding(array, half, files[slide])
        found[slide] = half, _recipe(half, tables[slide])
    return found


def _read(path: Path, table: SpotTable, name: str) -> NDArray[Any]:
    if path.suffix == ".npy":
        array = read_array(path, path, "save one array with numpy.save", "r")
        if array.dtype.kind not in "fiu":
            raise BadInput(f"{path}: contains {array.dtype}, not numbers; save a numeric array")
        return array
    if path.suffix == ".zarr":
        return read_zarr(path, name).match(table)
    return (read_h5 if path.suffix == ".h5" else read_pt)(path).match(table)


def _recipe(array: NDArray[np.float16], table: SpotTable) -> Recipe:
    """Identity of an imported embedding: its numbers and its spots."""
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


def _to_float16(array: NDArray[Any], table: SpotTable, path: Path) -> NDArray[np.float16]:
    """Convert to float16; refused if a value is not finite, or too large."""
    half = round_to_float16(array)
    odd = np.asarray(~np.isfinite(half).all(axis=1))
    if not odd.any():
        return half
    first = int(odd.argmax())
    # Rows of other files are in another order.
    which = f"row {first} from 0, " if path.suffix == ".npy" else ""
    what = (
        "above 65504, the largest of float16, the store's dtype; divide all values by a constant "
        "before importing"
        if np.isfinite(array[first]).all()
        else "that are not finite; embed these spots again"
    )
    raise BadInput(
        f"{path}: {odd.sum()} of {len(odd)} rows (first: {which}spot {table.spot_ids[first]}) have "
        f"values {what}"
    )


def _check_rounding(array: NDArray[Any], half: NDArray[np.float16], path: Path) -> None:
    """Refuse an array with a feature that loses its variation in float16."""
    exact = np.asarray(array, dtype=np.float64)
    spread = exact.std(axis=0)
    varies = spread > 1e-6 * np.abs(exact).max(axis=0)  # beyond rounding errors of float32
    error = (half - exact).std(axis=0)
    lost = int(np.sum(varies & (error > MAX_ROUNDING * spread)))
    if lost:
        raise BadInput(
            f"{path}: float16, the store's dtype, cannot resolve the values of {lost} of "
            f"{half.shape[1]} features; subtract each feature's mean, or divide all by their "
            "largest value, before importing"
        )
