"""Embeddings exported in the format of TRIDENT and imported again."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.outputs.trident import export_trident
from histoboost.spots import SpotTable

N = 12


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """Slides of known and unknown resolution, with patches in pixels and micrometres."""
    store, rng = EmbeddingStore(tmp_path / "store.zarr"), np.random.default_rng(0)
    for slide, scale in (("S_1", 0.5), ("S_2", None)):
        x, y = np.meshgrid(np.arange(4) * 100.0, np.arange(3) * 100.0)
        xy = np.stack([x.ravel(), y.ravel()], 1) + 70.3
        ids = tuple(f"{slide}_{i}" for i in range(N))
        store.write_spots(SpotTable(slide, xy, ids, um_per_px=scale, image_shape=(400, 500)))
        for name, fields in {
            "net@128": {"patch_px": 128},
            "net@55um": {"patch_um": 55.0, "slide_scale": {"patch_px": 110, "um_per_px": 0.5}},
        }.items():
            values = rng.normal(size=(N, 5)).astype(np.float16)
            store.writer(slide, name, Recipe(fields), N, 5).write_all(values)
    return store


def test_exported_embeddings_are_the_same_when_imported(tmp_path, store):
    assert export_trident(store, tmp_path / "out") == ["net@128", "net@55um"]
    again = EmbeddingStore(tmp_path / "again.zarr")
    for slide in store.slides():
        again.write_spots(store.spots(slide))
    for name in ("net@128", "net@55um"):
        assert again.import_arrays(name, tmp_path / "out" / name) == ["S_1", "S_2"]
        for slide in ("S_1", "S_2"):
            np.testing.assert_array_equal(again.read(slide, name), store.read(slide, name))


def test_files_have_the_layout_and_the_attributes_of_trident(tmp_path, store):
    result = CliRunner().invoke(
        main, ["cache", "export", str(store.location), str(tmp_path / "out"), "--trident"]
    )
    assert result.exit_code == 0, result.output
    with h5py.File(tmp_path / "out" / "net@128" / "S_1.h5") as file:
        assert (file["features"].shape, file["features"].dtype) == ((N, 5), np.float32)
        coords, xy = file["coords"], store.spots("S_1").xy
        assert coords.dtype == np.int64
        np.testing.assert_array_equal(coords[()], np.floor(xy - 64 + 0.5))  # as patches are cut
        expected = {
            "patch_size": 128,
            "patch_size_level0": 128,
            "level0_magnification": 20.0,
            "target_magnification": 20.0,
            "overlap": 28,
            "name": "S_1",
            "savetodir": str(tmp_path / "out" / "net@128"),
            "level0_width": 500,
            "level0_height": 400,
        }
        assert dict(coords.attrs) == expected
    with h5py.File(tmp_path / "out" / "net@128" / "S_2.h5") as file:
        assert "level0_magnification" not in file["coords"].attrs


def test_imported_embeddings_are_left_out_by_name(tmp_path):
    store = EmbeddingStore(tmp_path / "store.zarr")
    store.write_spots(SpotTable("S_1", np.zeros((1, 2)), ("a",)))
    (tmp_path / "made").mkdir()
    np.save(tmp_path / "made" / "S_1.npy", np.ones((1, 3)))
    store.import_arrays("mine", tmp_path / "made")
    with (
        pytest.warns(HistoboostWarning, match="mine left out: imported"),
        pytest.raises(HistoboostError, match="no embedding to export"),
    ):
        export_trident(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
