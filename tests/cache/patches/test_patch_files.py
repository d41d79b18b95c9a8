"""Embeddings of TRIDENT and HEST are matched to spots, or refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.spots import SpotTable

N, D, SIDE = 30, 7, 16


@pytest.fixture
def features() -> np.ndarray:
    return np.arange(N * D, dtype=np.float32).reshape(N, D)


def write(folder: Path, coords: np.ndarray, features: np.ndarray, **more: object) -> Path:
    """Write ``S_1.h5`` in the folder ``made``; `more`: side=, src=, barcodes=, or datasets."""
    folder = folder / "made"
    folder.mkdir(exist_ok=True)
    side, src = more.pop("side", None), more.pop("src", None)
    with h5py.File(folder / "S_1.h5", "w") as file:
        file["features"] = features
        file["coords"] = coords
        if side is not None:
            file["coords"].attrs["patch_size_level0"] = side
        if src is not None:
            file.attrs["patch_size_src"] = src
        for name, values in more.items():
            file[name] = values
    return folder


def shuffled(*arrays: np.ndarray) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(N)
    return [array[order] for array in arrays]


@pytest.mark.parametrize(
    ("shift", "more"),
    [
        (SIDE / 2, {"side": SIDE}),
        (SIDE / 2, {"src": SIDE}),
        (SIDE / 2, {}),  # corners at one offset from the spots
        (0.0, {}),  # spot centres
    ],
)
def test_patches_are_matched_by_coordinates(tmp_path, store, table, features, shift, more):
    coords, rows = shuffled((table.xy - shift).astype(np.int64), features)
    folder = write(tmp_path, coords, rows[None] if more else rows, **more)
    assert store.import_arrays("uni", folder) == ["S_1"]
    np.testing.assert_array_equal(store.read("S_1", "uni"), features.astype(np.float16))
    assert store.import_arrays("uni", folder) == []


def test_barcodes_take_precedence_over_coordinates(tmp_path, store, table, features):
    barcodes, rows = shuffled(np.array(table.spot_ids, dtype="S"), features)
    folder = write(tmp_path, np.zeros((N, 2)), rows, barcode=barcodes[:, None])
    store.import_arrays("uni", folder)
    np.testing.assert_array_equal(store.read("S_1", "uni"), features.astype(np.float16))


def test_patches_without_a_spot_are_counted_and_ignored(tmp_path, store, table, features):
    coords = np.vstack([table.xy - SIDE / 2, [[900, 900], [0, 700]]])
    rows = np.vstack([features, np.full((2, D), -1.0)])
    folder = write(tmp_path, coords, rows, side=SIDE)
    with pytest.warns(HistoboostWarning, match="2 of 32 patches match no spot of slide S_1"):
        store.import_arrays("uni", folder)
    np.testing.assert_array_equal(store.read("S_1", "uni"), features.astype(np.float16))


def renamed(folder: Path, old: str, new: str) -> None:
    with h5py.File(folder / "S_1.h5", "a") as file:
        file.move(old, new)


def test_what_cannot_be_matched_is_one_clear_line(tmp_path, store, table, features):
    corners = table.xy - SIDE / 2
    barcodes = np.array(table.spot_ids, dtype="S")
    cases = [
        (corners[:-2], features[:-2], {"side": SIDE}, "2 of 30 spots .* have no patch around"),
        (corners * 4, features, {"side": SIDE}, "pixels of the same image"),
        (
            np.vstack([corners, corners[:3]]),
            np.vstack([features, -features[:3]]),
            {"side": SIDE},
            "3 of 30 spots .* several patches at the same coordinates",
        ),
        (corners, features[:-1], {"side": SIDE}, r"shape \(30, 2\); .* each of the 29 patches"),
        (corners, features[:, 0], {"side": SIDE}, "not numbers of shape"),
        (corners, features, {"barcode": barcodes[:-1]}, "29 distinct barcodes for 30 patches"),
        (corners[1:], features[1:], {"barcode": barcodes[1:]}, r"no patch \(first: BC0-1\)"),
        (np.where(corners > 80, np.nan, corners), features, {}, "coords of .* are not finite"),
        (corners.astype("S9"), features, {}, r"coords are \|S9 of shape \(30, 2\)"),
        (corners, features, {"side": "wide"}, "wide, not a side in pixels"),
        (corners, features, {"side": np.nan}, "nan, not a side in pixels"),
        (corners, features, {"side": 0}, "0, not a side in pixels"),
        (corners, features, {"barcode": np.array([b"\xe9"] * N)}, "barcode is not text in UTF-8"),
    ]
    for coords, rows, more, message in cases:
        folder = write(tmp_path, coords, rows, **more)
        with pytest.raises(HistoboostError, match=message) as error:
            store.import_arrays("uni", folder)
        assert "S_1.h5" in str(error.value)
        assert "\n" not in str(error.value)
    folder = write(tmp_path, corners, features)
    renamed(folder, "coords", "places")
    with pytest.raises(HistoboostError, match="neither 'coords' nor barcodes"):
        store.import_arrays("uni", folder)
    renamed(folder, "features", "images")
    with pytest.raises(HistoboostError, match="no 'features' .it contains images, places"):
        store.import_arrays("uni", folder)
    (folder / "S_1.h5").write_bytes(b"no HDF5")
    with pytest.raises(HistoboostError, match="cannot be read as HDF5"):
        store.import_arrays("uni", folder)
    assert store.embeddings("S_1") == {}


@pytest.mark.parametrize("side", [SIDE, None])
def test_a_single_spot_gets_no_distant_patch(tmp_path: Path, features, side: int | None):
    store = EmbeddingStore(tmp_path / "alone.zarr")
    store.write_spots(SpotTable(slide="S_1", xy=np.array([[50.0, 50.0]]), spot_ids=("BC0-1",)))
    near = np.array([[50 - SIDE / 2] * 2] if side else [[50.0, 50.0]])
    far = near + np.arange(9, 15).reshape(-1, 1)
    with pytest.raises(HistoboostError, match="1 of 1 spots of slide S_1 have no patch around"):
        store.import_arrays("uni", write(tmp_path, far, features[:6], side=side))
    folder = write(tmp_path, np.vstack([far, near]), features[:7], side=side)
    with pytest.warns(HistoboostWarning, match="6 of 7 patches match no spot"):
        store.import_arrays("uni", folder)
    np.testing.assert_array_equal(store.read("S_1", "uni"), features[6:7].astype(np.float16))
