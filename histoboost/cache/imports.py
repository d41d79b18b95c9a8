"""Take embeddings that were made elsewhere into a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.layout import FORMAT_VERSION
from histoboost.cache.patch_files import read_h5, read_pt
from histoboost.cache.patch_stores import read_zarr
from histoboost.cache.recipe import Recipe
from histoboost.cache.writer import to_float16
from histoboost.digests import digest_array, digest_spots
from histoboost.errors import BadInput
from histoboost.io import read_array
from histoboost.spots import SpotTable

#: Largest error of rounding to float16, rms, as a share of a feature's standard deviation.
MAX_ROUNDING = 0.1
#: Kinds of files that are taken in.
SUFFIXES = (".npy", ".h5", ".pt", ".zarr")


def read_arrays(
    directory: Path, tables: Mapping[str, SpotTable], name: str = ""
) -> dict[str, tuple[NDArray[np.float16], Recipe]]:
    """The arrays in ``directory/<slide>.npy`` (or another suffix), (N, D) each, and their recipes.

    The rows of an ``.npy`` file are the store's; those of all other files are matched to spots, see
    `patch_files` (``.h5``, ``.pt``) and `patch_stores` (``.zarr``, ``.embeddings.zarr``).

    Parameters
    ----------
    directory : Path
        Folder with one file for each slide, and none for any other, or slide2vec's output, which
        has them in ``tile_embeddings``.
    tables : mapping
        Name to spots of every slide.
    name : str
        Of the embedding to be: says which is meant where a file holds several.

    Raises
    ------
    HistoboostError
        If a slide has no file or a file no slide, or an array does not fit.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such folder; give the one with <slide>.npy files")
    files: dict[str, Path] = {}
    if (directory / "tile_embeddings").is_dir():
        directory = directory / "tile_embeddings"
    for path in sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES):
        slide = path.stem.removesuffix(".embeddings") if path.suffix == ".zarr" else path.stem
        if slide in files:
            raise BadInput(f"{path}: slide {slide} also has {files[slide].name}; keep one of them")
        files[slide] = path
    unknown = sorted(files.keys() - tables.keys())
    if unknown:
        known = ", ".join(tables) or "none"
        raise BadInput(f"{files[unknown[0]]}: no slide {unknown[0]!r}; there are {known}")
    lacking = [slide for slide in tables if slide not in files]
    if lacking:
        kinds = ", ".join(SUFFIXES[1:-1])
        raise BadInput(
            f"{directory}: no {lacking[0]}.npy, {kinds} or {SUFFIXES[-1]}; give one file per slide"
        )
    arrays = {slide: _read(files[slide], table, name) for slide, table in tables.items()}
    width = next((array.shape[1] for array in arrays.values() if array.ndim == 2), 0)
    for slide, array in arrays.items():
        expected = (len(tables[slide]), width)
        if array.ndim != 2 or array.shape != expected or width == 0:
            raise BadInput(
                f"{files[slide]}: has shape {array.shape}, not {expected}; "
                "give one row per spot, in the order of the store"
            )
    halves = {slide: _halves(array, files[slide]) for slide, array in arrays.items()}
    return {slide: (half, _recipe(half, tables[slide])) for slide, half in halves.items()}


def _read(path: Path, table: SpotTable, name: str) -> NDArray[Any]:
    if path.suffix == ".npy":
        return _load(path)
    if path.suffix == ".zarr":
        return read_zarr(path, name).of_spots(table)
    return (read_h5 if path.suffix == ".h5" else read_pt)(path).of_spots(table)


def _recipe(array: NDArray[np.float16], table: SpotTable) -> Recipe:
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


def _halves(array: NDArray[Any], path: Path) -> NDArray[np.float16]:
    """`array` as float16, refused where a feature's values fall together by it."""
    half = to_float16(array, str(path))
    exact = np.asarray(array, dtype=np.float64)
    spread = exact.std(axis=0)
    varies = spread > 1e-6 * np.abs(exact).max(axis=0)  # else constant but for float32's rounding
    error = (half - exact).std(axis=0)
    lost = int(np.sum(varies & (error > MAX_ROUNDING * spread)))
    if lost:
        raise BadInput(
            f"{path}: float16, in which the store keeps embeddings, cannot hold the values of "
            f"{lost} of {half.shape[1]} features apart; subtract each feature's mean, or divide "
            "all by their largest value, before importing"
        )
    return half


def _load(path: Path) -> NDArray[Any]:
    array = read_array(path, path, "save one array with numpy.save", "r")
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{path}: holds {array.dtype}; numbers are needed")
    return array
