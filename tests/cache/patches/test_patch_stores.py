"""Embeddings of slide2vec, raw2features and LazySlide are matched to spots.

Written in the layouts of those programs, see `histoboost.cache.patch_files` and `patch_stores`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from histoboost.cache.imports import read_arrays
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.spots import SpotTable

N, D, SIDE = 30, 7, 16
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
ORDER = np.random.default_rng(1).permutation(N)


def corners(table: SpotTable) -> np.ndarray:
    """Upper left corners of the patches, shuffled."""
    return (table.xy - SIDE / 2).astype(np.int64)[ORDER]


def slide2vec(folder: Path, table: SpotTable) -> None:
    for part in ("tile_embeddings", "tiles"):
        (folder / part).mkdir(parents=True)
    torch.save(torch.from_numpy(FEATURES[ORDER]).half(), folder / "tile_embeddings" / "S_1.pt")
    meta = {"artifact_type": "tile_embeddings", "tile_size_lv0": SIDE}
    (folder / "tile_embeddings" / "S_1.meta.json").write_text(json.dumps(meta))
    x, y = corners(table).T
    index = np.arange(N, dtype=np.int32)
    np.savez(folder / "tiles" / "S_1.coordinates.npz", x=x, y=y, tile_index=index)


def raw2features(folder: Path, table: SpotTable, models: tuple[str, ...] = ("uni",)) -> None:
    root = zarr.open_group(folder / "S_1.embeddings.zarr", mode="w", zarr_format=2)
    for key in ("mpp0.5_px224", "mpp1_px224")[: len(models)]:
        grid = root.create_group(f"grids/{key}")
        grid.attrs["raw2features"] = {"schema_version": "0.1", "patching": {"level0_patch": SIDE}}
        grid.create_array("coords", data=corners(table).astype(np.int32))
        values = FEATURES[ORDER] + (key == "mpp1_px224")
        for model in models:
            grid.create_array(f"features/{model}", data=values.astype(np.float16))


def box(x: float, y: float) -> bytes:
    """A square in well-known binary, as in GeoParquet."""
    ring = [(x, y), (x, y + SIDE), (x + SIDE, y + SIDE), (x + SIDE, y), (x, y)]
    flat = [value for point in ring for value in point]
    return struct.pack("<BIII10d", 1, 3, 1, 5, *flat)


def lazyslide(
    folder: Path, table: SpotTable, models: tuple[str, ...] = ("uni",), version: int = 3
) -> None:
    with anndata.settings.override(zarr_write_format=version):
        _lazyslide(folder, table, models, version)


def _lazyslide(folder: Path, table: SpotTable, models: tuple[str, ...], version: int) -> None:
    path = folder / "S_1.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.attrs["spatialdata_attrs"] = {"version": "0.2"}
    root.create_group("shapes/tiles")
    root.create_group("tables")
    tiles = pd.DataFrame({"tile_id": np.arange(N)})
    tiles["geometry"] = [box(*corner) for corner in corners(table)]
    tiles.to_parquet(path / "shapes" / "tiles" / "shapes.parquet")
    again = np.random.default_rng(2).permutation(N)  # rows are joined by tile_id, not by order
    for shift, model in enumerate(models):
        obs = pd.DataFrame({"tile_id": again}, index=again.astype(str))
        obs["library_id"] = pd.Categorical(["tiles"] * N)
        links = {"region": "tiles", "region_key": "library_id", "instance_key": "tile_id"}
        made = anndata.AnnData(FEATURES[ORDER][again] + shift, obs=obs)
        made.uns["spatialdata_attrs"] = links
        made.write_zarr(path / "tables" / f"{model}_tiles")
    anndata.AnnData(obs=obs).write_zarr(path / "tables" / "tiles_graph")


def older_lazyslide(folder: Path, table: SpotTable) -> None:
    lazyslide(folder, table, version=2)


Writer = Callable[[Path, SpotTable], None]


@pytest.mark.filterwarnings("ignore:.*zarr:UserWarning")
@pytest.mark.parametrize("write", [slide2vec, raw2features, lazyslide, older_lazyslide])
def test_each_spot_gets_the_patch_around_it(tmp_path, store, table, write):
    write(tmp_path / "made", table)
    assert store.import_arrays("mine", tmp_path / "made") == ["S_1"]
    expected = FEATURES.astype(np.float16)
    np.testing.assert_array_equal(store.read("S_1", "mine"), expected)
    assert store.import_arrays("mine", tmp_path / "made") == []


@pytest.mark.filterwarnings("ignore:.*zarr:UserWarning")
@pytest.mark.parametrize("write", [slide2vec, raw2features, lazyslide])
def test_distant_patches_are_refused_and_spare_ones_counted(tmp_path, store, table, write):
    far = SpotTable(table.slide, table.xy + 500, table.spot_ids)
    write(tmp_path / "far", far)
    with pytest.raises(HistoboostError, match="30 of 30 spots of slide S_1 have no patch around"):
        store.import_arrays("mine", tmp_path / "far")
    fewer = EmbeddingStore(tmp_path / "fewer.zarr")
    fewer.write_spots(SpotTable("S_1", table.xy[:20], table.spot_ids[:20]))
    write(tmp_path / "made", table)
    with pytest.warns(HistoboostWarning, match="10 of 30 patches match no spot"):
        fewer.import_arrays("mine", tmp_path / "made")


@pytest.mark.filterwarnings("ignore:.*zarr:UserWarning")
@pytest.mark.parametrize(
    ("write", "name", "listed"),
    [
        (raw2features, "conch@mpp1_px224", ["uni@mpp0.5_px224", "uni@mpp1_px224"]),
        (lazyslide, "conch", ["conch_tiles, uni_tiles"]),
    ],
)
def test_one_of_several_embeddings_is_imported_by_name(tmp_path, store, table, write, name, listed):
    write(tmp_path / "made", table, ("uni", "conch"))
    with pytest.raises(HistoboostError, match="import one by its name") as caught:
        store.import_arrays("mine", tmp_path / "made")
    assert all(each in str(caught.value) for each in listed)
    store.import_arrays(name, tmp_path / "made")
    np.testing.assert_allclose(store.read("S_1", name), FEATURES + 1, atol=4e-3)


def test_a_pt_file_runs_no_code_and_needs_its_coordinates(tmp_path, store, table):
    slide2vec(tmp_path, table)
    (tmp_path / "tiles" / "S_1.coordinates.npz").unlink()
    with pytest.raises(HistoboostError, match=r"no coordinates in .*tiles.S_1\.coordinates\.npz"):
        store.import_arrays("mine", tmp_path)
    torch.save({"code": Path("x")}, tmp_path / "tile_embeddings" / "S_1.pt")
    with pytest.raises(HistoboostError, match=r"S_1\.pt: cannot be read as a file of torch"):
        store.import_arrays("mine", tmp_path)


def trident(folder: Path, table: SpotTable) -> None:
    with h5py.File(folder / "S_1.h5", "w") as file:
        file["features"], file["coords"] = FEATURES[ORDER], corners(table)
        file["coords"].attrs["patch_size_level0"] = SIDE


def hest(folder: Path, table: SpotTable) -> None:
    with h5py.File(folder / "S_1.h5", "w") as file:
        file["embeddings"], file["coords"] = FEATURES, corners(table)
        file["barcode"] = np.array(table.spot_ids, "S")[:, None]


def numpy_array(folder: Path, table: SpotTable) -> None:
    np.save(folder / "S_1.npy", FEATURES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [15, pytest.param(400, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "write", [slide2vec, raw2features, lazyslide, older_lazyslide, trident, hest, numpy_array]
)
def test_a_damaged_file_is_imported_or_refused_in_one_line(tmp_path, table, fuzz, write, count):
    write(tmp_path, table)
    fuzz(tmp_path, count, lambda: read_arrays(tmp_path, {"S_1": table}, "uni"))
