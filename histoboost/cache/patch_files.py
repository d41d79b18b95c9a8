"""Embeddings that TRIDENT or HEST wrote: HDF5 with ``features`` and ``coords``, by coordinates."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.hdf5_file import open_hdf5
from histoboost.spots import SpotTable, spot_pitch

FEATURES = ("features", "embeddings")
BARCODES = ("barcode", "barcodes")

#: Attributes that give the side of a patch in pixels of the slide: TRIDENT's, then HEST's.
SIDES = ("patch_size_level0", "patch_size_src")

#: A patch belongs to a spot if their centres are closer than this share of the spots' distance.
TOLERANCE = 0.25


def read_patch_file(path: Path, table: SpotTable) -> NDArray[Any]:
    """The embeddings in `path`, one row for each spot of `table`, in its order.

    Rows are found by barcode where the file has barcodes, else by coordinates: ``coords`` are the
    upper left corners of the patches, (x, y) in pixels of the slide, and the patch's side is an
    attribute (``patch_size_level0`` or ``patch_size_src``). Without that attribute they may be
    the spots' centres, or corners that all lie equally far from them.

    Parameters
    ----------
    path : Path
        HDF5 file with ``features``, (M, D) or (1, M, D), and ``coords``, (M, 2).
    table : SpotTable
        N spots. More patches than spots are reported; a spot without a patch is an error.

    Returns
    -------
    ndarray of shape (N, D)

    Raises
    ------
    HistoboostError
        If the file is damaged or holds something else, or a spot has no patch of its own.
    """
    try:
        with open_hdf5(path) as file:
            features = _features(path, file)
            rows = _rows(path, file, table, len(features))
    except (MemoryError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as HDF5 ({error})") from error
    spare = len(features) - len(rows)
    if spare:
        warnings.warn(
            f"{path}: {spare} of {len(features)} patches match no spot of slide "
            f"{table.slide} and are ignored",
            HistoboostWarning,
            stacklevel=2,
        )
    return features[rows]


def _features(path: Path, file: h5py.File) -> NDArray[Any]:
    key = next((key for key in FEATURES if isinstance(file.get(key), h5py.Dataset)), None)
    if key is None:
        found = ", ".join(file) or "nothing"
        raise BadInput(f"{path}: no 'features' (it holds {found}); give TRIDENT's output")
    features: NDArray[Any] = file[key][()]
    if features.ndim == 3 and len(features) == 1:
        features = features[0]
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise BadInput(
            f"{path}: {key} is {features.dtype} of shape {features.shape}, not numbers of shape "
            "(patches, width)"
        )
    return features


def _rows(path: Path, file: h5py.File, table: SpotTable, patches: int) -> NDArray[np.int64]:
    key = next((key for key in BARCODES if isinstance(file.get(key), h5py.Dataset)), None)
    if key is not None:
        try:
            names = [_text(name) for name in np.ravel(file[key][()])]
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: {key} is not text in UTF-8 ({error})") from error
        return _by_barcode(path, names, table, patches)
    if not isinstance(file.get("coords"), h5py.Dataset):
        raise BadInput(f"{path}: no 'coords' and no barcodes; patches cannot be matched")
    coords: NDArray[Any] = np.asarray(file["coords"][()])
    if coords.shape != (patches, 2) or coords.dtype.kind not in "fiu":
        raise BadInput(
            f"{path}: coords have shape {coords.shape} for {patches} patches ({coords.dtype}); "
            "give (x, y) of each"
        )
    if lost := int((~np.isfinite(coords)).any(axis=1).sum()):
        raise BadInput(f"{path}: coords of {lost} patches are not finite; leave these patches out")
    return _by_coordinates(path, coords.astype(np.float64), _side(path, file), table)


def _by_barcode(path: Path, names: list[str], table: SpotTable, patches: int) -> NDArray[np.int64]:
    where = {name: row for row, name in enumerate(names)}
    if len(names) != patches or len(where) != patches:
        raise BadInput(
            f"{path}: {len(where)} distinct barcodes for {patches} patches; each needs its own"
        )
    lacking = [spot for spot in table.spot_ids if spot not in where]
    if lacking:
        raise BadInput(
            f"{path}: {len(lacking)} of {len(table)} spots of slide {table.slide} have no patch "
            f"(first: {lacking[0]}); embed them too"
        )
    return np.array([where[spot] for spot in table.spot_ids])


def _by_coordinates(
    path: Path, coords: NDArray[np.float64], side: float | None, table: SpotTable
) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree

    pitch = spot_pitch(table.xy) or np.inf  # a single spot is everywhere
    if side is not None:
        shifts = [np.full(2, side / 2)]
    else:
        between = table.xy.mean(0) - coords.mean(0)
        square = len(coords) == len(table) and abs(between[0] - between[1]) <= 1
        shifts = [np.zeros(2), *([between] if square else [])]
    best: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
    for shift in shifts:
        distance, rows = cKDTree(coords + shift).query(table.xy)
        near = int((distance <= TOLERANCE * pitch).sum())
        if near > best[0]:
            best = (near, rows.astype(np.int64))
    near, rows = best
    if near < len(table):
        raise BadInput(
            f"{path}: {len(table) - near} of {len(table)} spots of slide {table.slide} have no "
            "patch around them; embed patches centred on the spots, in pixels of the same image"
        )
    if len(np.unique(rows)) < len(rows):
        raise BadInput(
            f"{path}: two spots of slide {table.slide} share a patch; embed one patch for each"
        )
    return rows


def _side(path: Path, file: h5py.File) -> float | None:
    """Side of the patches in pixels of the slide, wherever the file notes it."""
    others = (file.get(key) for key in file if key != "coords")
    for noted in (file["coords"], file, *(other for other in others if other is not None)):
        for name in SIDES:
            if name in noted.attrs:
                side = np.ravel(noted.attrs[name])
                if side.size == 0 or side.dtype.kind not in "fiu" or not 0 < side[0] < np.inf:
                    raise BadInput(f"{path}: {name} is {noted.attrs[name]}, not a side in pixels")
                return float(side[0])
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(cast(Any, value))
