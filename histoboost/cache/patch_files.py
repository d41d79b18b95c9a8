"""Read files of patch embeddings: HDF5 of TRIDENT and HEST, ``.pt`` of slide2vec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.cache.patch_matching import Patches
from histoboost.errors import BadInput, require
from histoboost.hdf5_file import DAMAGED, open_hdf5
from histoboost.io import read_torch

REMEDY = "give slide2vec's tile embeddings"
FEATURES = ("features", "embeddings")
BARCODES = ("barcode", "barcodes")

#: Attributes with the side of a patch in slide pixels: TRIDENT's, then HEST's.
SIDES = ("patch_size_level0", "patch_size_src")


def read_h5(path: Path) -> Patches:
    """Read an HDF5 file with ``features``, (M, D) or (1, M, D), and barcodes or ``coords``.

    ``coords``, (M, 2), are the upper left corners of the patches, (x, y) in slide pixels. The side
    of a patch is an attribute (``patch_size_level0`` or ``patch_size_src``); without it ``coords``
    may be spot centres, or corners at the same offset from them.
    See ``save_h5`` and ``coords_to_h5`` in ``trident/IO.py`` of mahmoodlab/TRIDENT, and
    ``embed_tiles`` in ``src/hest/bench/benchmark.py`` of mahmoodlab/HEST.
    """
    try:
        with open_hdf5(path) as file:
            features = _features(path, file)
            barcodes = _barcodes(path, file)
            if barcodes is not None:
                return Patches(path, features, barcodes=barcodes)
            if not isinstance(file.get("coords"), h5py.Dataset):
                return Patches(path, features)
            return Patches(path, features, np.asarray(file["coords"][()]), _side(path, file))
    except (MemoryError, *DAMAGED) as error:
        raise BadInput(f"{path}: cannot be read as HDF5 ({error})") from error


def _features(path: Path, file: h5py.File) -> NDArray[Any]:
    key = next((key for key in FEATURES if isinstance(file.get(key), h5py.Dataset)), None)
    if key is None:
        found = ", ".join(map(str, file)) or "nothing"
        raise BadInput(f"{path}: no 'features' (it contains {found}); give TRIDENT's output")
    return _drop_batch_axis(file[key][()])


def _drop_batch_axis(features: NDArray[Any]) -> NDArray[Any]:
    return features[0] if features.ndim == 3 and len(features) == 1 else features


def _barcodes(path: Path, file: h5py.File) -> list[str] | None:
    key = next((key for key in BARCODES if isinstance(file.get(key), h5py.Dataset)), None)
    if key is None:
        return None
    try:
        names = np.ravel(file[key][()])
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: {key} is not text in UTF-8 ({error})") from error


def _side(path: Path, file: h5py.File) -> float | None:
    """Side of the patches in slide pixels, from the attributes of any object."""
    others = (file.get(key) for key in file if key != "coords")
    for node in (file["coords"], file, *(other for other in others if other is not None)):
        for name in SIDES:
            if name in node.attrs:
                side = np.ravel(node.attrs[name])
                if side.size == 0 or side.dtype.kind not in "fiu" or not 0 < side[0] < np.inf:
                    raise BadInput(f"{path}: {name} is {node.attrs[name]}, not a side in pixels")
                return float(side[0])
    return None


def read_pt(path: Path) -> Patches:
    """Read embeddings of slide2vec: a tensor (M, D) with coordinates in a file beside it.

    ``tile_embeddings/<slide>.pt`` has its coordinates in ``tiles/<slide>.coordinates.npz``, arrays
    ``x`` and ``y``: upper left corners of the patches in slide pixels. The side of a patch is
    ``tile_size_lv0`` in ``tile_embeddings/<slide>.meta.json``.
    See ``docs/output-layout.rst`` and ``slide2vec/artifacts.py`` of clemsgrs/slide2vec.
    """
    require(str(path), "torch", "torch")
    tensor = read_torch(path, "cannot be read as a file of torch", REMEDY)
    if not hasattr(tensor, "is_floating_point") or not tensor.is_floating_point():
        raise BadInput(f"{path}: contains no tensor of numbers; {REMEDY}")
    features = _drop_batch_axis(tensor.detach().float().numpy())
    name = f"{path.stem}.coordinates.npz"
    places = [path.with_name(name), path.parent.parent / "tiles" / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BadInput(
            f"{path}: no coordinates in {places[1]}; give slide2vec's whole output, or save rows "
            "in the store's order as .npy"
        )
    try:
        with np.load(found, allow_pickle=False) as arrays:
            coords = np.stack([arrays["x"], arrays["y"]], axis=1)
    except Exception as error:
        raise BadInput(f"{found}: contains no coordinates x and y ({error})") from error
    return Patches(path, features, coords, _side_in_json(path.with_suffix(".meta.json")))


def _side_in_json(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        side = json.loads(path.read_text("utf-8")).get("tile_size_lv0")
        return None if side is None else float(side)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: not slide2vec's description ({error})") from error
