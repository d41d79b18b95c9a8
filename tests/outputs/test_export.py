"""Slides of a store exported as AnnData and SpatialData, and read back."""

from __future__ import annotations

import warnings
from dataclasses import replace

import anndata
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.outputs.export import export
from histoboost.phantom import phantom_slide
from histoboost.slides.readers import open_dataset
from histoboost.slides.thumbnail import thumbnail
from histoboost.spots import SpotTable


@pytest.fixture(scope="module")
def tables() -> list[SpotTable]:
    """Two slides, the second without labels."""
    slides = [phantom_slide(name, seed=i, spots=20) for i, name in enumerate(["A 1", "B"])]
    first, second = (slide.spot_table(thumbnail(slide.image)) for slide in slides)
    types = ("T cell", "NK+ (rare)", *first.cell_types[2:])
    return [
        replace(first, cell_types=types, group="mouse"),
        replace(second, abundance=None, cell_types=()),
    ]


@pytest.fixture(scope="module")
def store(tables: list[SpotTable], tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    folder = tmp_path_factory.mktemp("export")
    store = EmbeddingStore(folder / "store.zarr")
    rng = np.random.default_rng(0)
    (folder / "made").mkdir()
    for table in tables:
        store.write_spots(table)
        np.save(folder / "made" / f"{table.slide}.npy", rng.normal(size=(len(table), 5)))
    store.import_arrays("net@64", folder / "made")
    return store


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_an_anndata_holds_spots_labels_embeddings_and_images(tmp_path, store, tables, suffix):
    path = tmp_path / f"out{suffix}"
    assert export(store, path) == ["net@64"]
    adata = anndata.read_h5ad(path) if suffix == ".h5ad" else anndata.read_zarr(path)
    first, second = tables
    assert list(adata.obs["spot"]) == [*first.spot_ids, *second.spot_ids]
    assert adata.obs_names[0] == f"A 1:{first.spot_ids[0]}"
    assert adata.obs_names.is_unique
    np.testing.assert_array_equal(adata.obsm["spatial"], np.vstack([first.xy, second.xy]))
    for table in tables:
        rows = (adata.obs["library_id"] == table.slide).to_numpy()
        np.testing.assert_array_equal(adata.obsm["net@64"][rows], store.read(table.slide, "net@64"))
        library = adata.uns["spatial"][table.slide]
        np.testing.assert_array_equal(library["images"]["hires"], table.thumbnail)
    abundance = adata.obsm["abundance"]
    assert tuple(abundance.columns) == first.cell_types
    np.testing.assert_array_equal(abundance.to_numpy()[: len(first)], first.abundance)
    assert np.isnan(abundance.to_numpy()[len(first) :]).all()
    assert list(adata.obs["group"].dropna().unique()) == ["mouse"]


def test_an_exported_slide_can_be_read_again(tmp_path, tables):
    store = EmbeddingStore(tmp_path / "store.zarr")
    store.write_spots(tables[0])
    assert export(store, tmp_path / "out.h5ad") == []
    (slide,) = open_dataset(tmp_path / "out.h5ad").slides
    assert slide.spot_ids == tables[0].spot_ids
    np.testing.assert_array_equal(slide.abundance, tables[0].abundance)
    height, _ = tables[0].image_shape
    assert slide.um_per_px * slide.image.shape[0] == pytest.approx(
        tables[0].um_per_px * height, rel=0.01
    )
    assert (slide.split, slide.group) == (tables[0].split, "mouse")


def test_an_unknown_scale_stays_unknown(tmp_path, tables):
    # Otherwise readers assume Visium's pitch, with which the spot diameter always agrees here.
    store = EmbeddingStore(tmp_path / "store.zarr")
    store.write_spots(replace(tables[0], um_per_px=None))
    export(store, tmp_path / "out.h5ad")
    (slide,) = open_dataset(tmp_path / "out.h5ad").slides
    assert slide.um_per_px is None


def test_slides_with_different_cell_types_are_refused(tmp_path, tables):
    store = EmbeddingStore(tmp_path / "store.zarr")
    other = tuple(f"other {name}" for name in tables[0].cell_types)
    store.write_spots(tables[0])
    store.write_spots(replace(tables[0], slide="C", cell_types=other))
    with pytest.raises(HistoboostError, match="slide C: cell types differ from A 1"):
        export(store, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("spatialdata", [False, True])
def test_an_unlabelled_slide_stays_unlabelled(tmp_path, store, spatialdata):
    path = tmp_path / "out.zarr"
    if spatialdata:
        reason = "pip install 'histoboost[spatialdata]'"
        pytest.importorskip("spatialdata", reason=reason, exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(store, path, spatialdata=spatialdata)
    first, second = open_dataset(path).slides
    assert first.labelled
    assert not second.labelled
    assert second.cell_types == ()


@pytest.mark.filterwarnings("ignore")
def test_a_spatialdata_has_spots_and_image_in_one_coordinate_system(tmp_path, store, tables):
    spatialdata = pytest.importorskip(
        "spatialdata", reason="pip install 'histoboost[spatialdata]'", exc_type=ImportError
    )
    path = tmp_path / "out.zarr"
    export(store, path, spatialdata=True)
    sdata = spatialdata.read_zarr(path)
    assert set(sdata.shapes) == {"A_1", "B"}
    assert set(sdata.images) == {"A_1_image", "B_image"}
    assert set(sdata.coordinate_systems) == {"A_1", "B"}
    table = sdata.tables["table"]
    rows = (table.obs["region"] == "B").to_numpy()
    np.testing.assert_array_equal(table.obsm["net_64"][rows], store.read("B", "net@64"))
    assert "abundance" in table.obsm
    xy = np.stack([sdata.shapes["B"].geometry.x, sdata.shapes["B"].geometry.y], 1)
    np.testing.assert_allclose(xy, tables[1].xy)


def test_an_embedding_that_a_slide_lacks_is_left_out_with_a_warning(tmp_path, store, tables):
    target = EmbeddingStore(tmp_path / "store.zarr")
    for table in tables:
        target.write_spots(table)
    recipe, rows = store.embeddings("B")["net@64"], store.read("B", "net@64")
    target.writer("B", "half", recipe, *rows.shape).write_all(rows)
    with pytest.warns(HistoboostWarning, match="half left out: not stored for every slide"):
        assert export(target, tmp_path / "out.h5ad") == []


def test_what_cannot_be_exported_is_refused_before_writing(tmp_path, store):
    (tmp_path / "there.zarr").mkdir()
    for name, message in (
        ("out.csv", "unknown suffix '.csv'; give .h5ad, .zarr"),
        ("there.zarr", "is a folder"),
        ("absent/out.h5ad", "no such folder"),
    ):
        with pytest.raises(HistoboostError, match=message):
            export(store, tmp_path / name)
    with pytest.raises(HistoboostError, match="unknown suffix '.h5ad'; give .zarr"):
        export(store, tmp_path / "out.h5ad", spatialdata=True)
    with pytest.raises(HistoboostError, match="contains no slides"):
        export(EmbeddingStore(tmp_path / "empty.zarr"), tmp_path / "out.h5ad")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".h5ad") == []


@pytest.mark.parametrize("types", [("A/B", "A_B"), ("A", "A_lower"), ("x", "A"), ("_index", "A")])
def test_cell_types_that_would_share_a_column_are_refused_before_writing(tmp_path, types):
    store = EmbeddingStore(tmp_path / "store.zarr")
    labels = np.ones((2, 2), np.float32)
    store.write_spots(SpotTable("S", np.eye(2), ("a", "b"), labels, types, image_shape=(9, 9)))
    with pytest.raises(HistoboostError, match="needs the column .* rename one"):
        export(store, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()
