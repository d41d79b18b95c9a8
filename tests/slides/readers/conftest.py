"""One phantom slide in every format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoboost.phantom import phantom_slide
from histoboost.slides.images.base import bands
from histoboost.slides.slide import Slide

#: The image of a fixture is a quarter of the "full-resolution" one its positions refer to.
HIRES = 0.25


@pytest.fixture(scope="session")
def source() -> Slide:
    """A labelled slide of about 40 spots whose ids look like barcodes."""
    slide = phantom_slide("P_1", seed=3, spots=40, pitch_px=20.0)
    letters = np.random.default_rng(0).choice(list("ACGT"), (len(slide.xy), 16))
    return replace(slide, spot_ids=tuple("".join(row) + "-1" for row in letters))


@pytest.fixture(scope="session")
def pixels(source: Slide) -> np.ndarray:
    """(H, W, 3) uint8."""
    return source.image.read_rows(0, source.image.shape[0])


@pytest.fixture(scope="session")
def abundances(source: Slide) -> pd.DataFrame:
    """The abundances by spot id, in a different order from the spots."""
    table = pd.DataFrame(source.abundance, index=list(source.spot_ids), columns=source.cell_types)
    return table.sample(frac=1.0, random_state=1)


@pytest.fixture
def write_outs(tmp_path, source, pixels, abundances) -> Callable[..., Path]:
    """Write a Space Ranger sample folder, with one extra spot off the tissue."""

    def write(
        variant: str = "tissue_positions.csv",
        sample: str = "P_1",
        table: str | None = "abundances.csv",
        diameter_um: float = 65.0,
    ) -> Path:
        outs = tmp_path / sample / "outs"
        spatial = outs / "spatial"
        spatial.mkdir(parents=True)
        Image.fromarray(pixels).save(spatial / "tissue_hires_image.png")
        full = source.xy / HIRES
        positions = pd.DataFrame(
            {
                "barcode": source.spot_ids,
                "in_tissue": 1,
                "array_row": np.arange(len(full)),
                "array_col": np.arange(len(full)),
                "pxl_row_in_fullres": full[:, 1].astype(int),
                "pxl_col_in_fullres": full[:, 0].astype(int),
            }
        )
        positions.loc[len(positions)] = ["OFF-1", 0, 77, 127, 4, 4]
        if variant.endswith(".parquet"):
            positions.to_parquet(spatial / variant)
        else:
            positions.to_csv(spatial / variant, index=False, header="list" not in variant)
        um_per_full_px = source.um_per_px * HIRES
        scales = {
            "spot_diameter_fullres": diameter_um / um_per_full_px,
            "fiducial_diameter_fullres": 144.5,
            "tissue_hires_scalef": HIRES,
            "tissue_lowres_scalef": HIRES * 0.3,
        }
        (spatial / "scalefactors_json.json").write_text(json.dumps(scales))
        if table is not None:
            if table.endswith(".parquet"):
                abundances.to_parquet(outs / table)
            else:
                abundances.to_csv(outs / table, sep="," if table.endswith(".csv") else "\t")
        return outs.parent

    return write


@pytest.fixture(scope="session")
def same_slide(source: Slide) -> Callable[[Slide], None]:
    """Check that a slide is the phantom, whatever the order of its spots."""

    def check(slide: Slide, *, um: bool = True) -> None:
        order = [source.spot_ids.index(spot) for spot in slide.spot_ids]
        assert sorted(order) == list(range(len(source.spot_ids)))
        np.testing.assert_allclose(slide.xy, source.xy[order], atol=1e-6)
        assert slide.image.shape == source.image.shape
        height = slide.image.shape[0]
        found = np.concatenate([rows for _, rows in bands(slide.image)])
        np.testing.assert_array_equal(found, source.image.read_rows(0, height))
        assert slide.cell_types == source.cell_types
        np.testing.assert_allclose(slide.abundance, source.abundance[order], rtol=1e-6)
        if um:
            assert slide.um_per_px == pytest.approx(source.um_per_px, rel=1e-3)

    return check


@pytest.fixture
def make_anndata(source, pixels, abundances) -> Callable[..., anndata.AnnData]:
    """The phantom in squidpy's layout of Visium, with one extra spot off the tissue."""

    def make(labels: str = "obsm") -> anndata.AnnData:
        order = np.random.default_rng(5).permutation(len(source.xy))
        ids = [*(source.spot_ids[i] for i in order), "OFF-1"]
        obs = pd.DataFrame({"in_tissue": [1] * len(order) + [0]}, index=ids)
        adata = anndata.AnnData(np.ones((len(ids), 3), np.float32), obs=obs)
        adata.obsm["spatial"] = np.vstack([source.xy[order], [[1.0, 1.0]]]) / HIRES
        adata.obsm["X_pca"] = np.zeros((len(ids), 2))
        table = abundances.reindex(ids).fillna(0.0)
        if labels == "obsm":
            adata.obsm["cell_types"] = table
        elif labels == "cell2location":
            for statistic in ("means", "q05"):
                name = f"{statistic}_cell_abundance_w_sf"
                prefixed = table.add_prefix(f"{statistic}cell_abundance_w_sf_")
                adata.obsm[name] = prefixed if statistic == "q05" else prefixed * 2
        elif labels == "obs":
            adata.obs[table.columns] = table
            adata.uns["mod"] = {"factor_names": np.array(table.columns, dtype=str)}
        adata.uns["spatial"] = {
            "P_1": {
                "images": {"hires": pixels, "lowres": pixels[::4, ::4]},
                "scalefactors": {
                    "tissue_hires_scalef": HIRES,
                    "tissue_lowres_scalef": HIRES / 4,
                    "spot_diameter_fullres": 65.0 / (source.um_per_px * HIRES),
                },
            }
        }
        return adata

    return make


@pytest.fixture
def make_sdata(pixels: np.ndarray, make_anndata: Callable) -> Callable[..., Any]:
    """The phantom in spatialdata-io's layout of Visium: circles in full-resolution pixels."""
    pytest.importorskip(
        "spatialdata", reason="pip install 'histoboost[spatialdata]'", exc_type=ImportError
    )
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    def make(pyramid: bool = False, labels: str = "obsm") -> SpatialData:
        adata = make_anndata(labels)
        adata.obs["instance"] = np.arange(100, 100 + len(adata))
        adata.obs["region"] = "P_1"
        scalefactors = adata.uns["spatial"]["P_1"]["scalefactors"]
        hires = scalefactors["tissue_hires_scalef"]
        to_full = Scale([1 / hires, 1 / hires], axes=("x", "y"))
        # The circles are in a different order from the table.
        order = np.random.default_rng(2).permutation(len(adata))
        circles = ShapesModel.parse(
            adata.obsm["spatial"][order],
            geometry=0,
            radius=scalefactors["spot_diameter_fullres"] / 2,
            index=adata.obs["instance"].to_numpy()[order],
            transformations={"P_1": Identity()},
        )
        image = Image2DModel.parse(
            pixels,
            dims=("y", "x", "c"),
            scale_factors=[2] if pyramid else None,
            transformations={"P_1": to_full},
        )
        small = Image2DModel.parse(
            pixels[::4, ::4],
            dims=("y", "x", "c"),
            transformations={"P_1": Scale([4 / hires, 4 / hires], axes=("x", "y"))},
        )
        del adata.uns["spatial"]
        table = TableModel.parse(adata, region="P_1", region_key="region", instance_key="instance")
        return SpatialData(
            images={"P_1_lowres": small, "P_1_hires": image},
            shapes={"P_1": circles},
            tables={"table": table},
        )

    return make


@pytest.fixture
def write_format(tmp_path, source, pixels, abundances, request) -> Callable[[str], Path]:
    """Write the slide in a format such as ``"manifest of png"``."""
    ids = pd.Index(source.spot_ids, name="spot")
    spots = pd.DataFrame(source.xy, columns=["x", "y"], index=ids)

    def hdf5(image: np.ndarray) -> Path:
        labels = pd.DataFrame(source.abundance, columns=source.cell_types, index=ids)
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["images/Train/P_1"] = image
            file["spots/Train/P_1"] = spots.join(labels).to_records(index=False)
        return tmp_path / "data.h5"

    def manifest(image: str) -> Path:
        spots.sample(frac=1, random_state=4).to_csv(tmp_path / "spots.csv")
        abundances.to_csv(tmp_path / "weights.csv")
        table = f"slide,image,spots,abundances\nP_1,{image},spots.csv,weights.csv\n"
        (tmp_path / "slides.csv").write_text(table)
        return tmp_path / "slides.csv"

    def png() -> Path:
        Image.fromarray(pixels).save(tmp_path / "he.png")
        return manifest("he.png")

    def tiff(name: str, **options: object) -> Path:
        tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")
        if name.endswith(".svslide"):
            pytest.importorskip("openslide", reason="pip install 'histoboost[wsi]'")
        options = {"photometric": "rgb", "tile": (64, 64), "metadata": None, **options}
        tifffile.imwrite(tmp_path / name, pixels, **options)
        return manifest(name)

    def ome_zarr(version: int) -> Path:
        import zarr

        root = zarr.open_group(tmp_path / "he.zarr", mode="w", zarr_format=version)
        root.create_array("0", data=np.moveaxis(pixels, -1, 0), chunks=(1, 64, 64))
        scales = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}
        attributes = {"multiscales": [scales]}
        root.attrs.update({"ome": attributes} if version == 3 else attributes)
        return manifest("he.zarr")

    def stored(make: str, write: str, name: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(request.getfixturevalue(make)(), write)(tmp_path / name)
        return tmp_path / name

    writers: dict[str, Callable[[], Path]] = {
        "hdf5 of uint8": lambda: hdf5(pixels),
        "hdf5 of float32": lambda: hdf5(pixels.astype("f4") / 255),
        "spaceranger": lambda: request.getfixturevalue("write_outs")(),
        "anndata in h5ad": lambda: stored("make_anndata", "write_h5ad", "adata.h5ad"),
        "anndata in zarr": lambda: stored("make_anndata", "write_zarr", "adata.zarr"),
        "spatialdata": lambda: stored("make_sdata", "write", "sdata.zarr"),
        "manifest of png": png,
        "manifest of tiff": lambda: tiff("he.tif", compression="zlib"),
        "manifest of svs": lambda: tiff("he.svs", description="Aperio Image|MPP = 0.5"),
        "manifest of openslide": lambda: tiff("he.svslide", compression="zlib"),
        "manifest of ome-tiff": lambda: tiff("he.ome.tif", metadata={"axes": "YXS"}),
        "manifest of ome-zarr 2": lambda: ome_zarr(2),
        "manifest of ome-zarr 3": lambda: ome_zarr(3),
    }
    return lambda name: writers[name]()
