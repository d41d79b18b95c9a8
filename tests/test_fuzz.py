"""Damaged files of every kind but slides are used or refused in one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest

from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable
from histoboost.cli.config import read_config
from histoboost.cli.featurize import featurize
from histoboost.slides.align.table import read_table
from histoboost.slides.cells import read_cells
from histoboost.slides.groups import with_groups
from histoboost.slides.images import open_image
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import bands
from histoboost.slides.readers import open_dataset
from histoboost.slides.regions import read_regions
from histoboost.slides.slide import Dataset, Slide

RGB = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
XY = np.random.default_rng(1).uniform(10, 25, (12, 2))
Use = Callable[[], object]


def regions(folder: Path) -> Use:
    ring = [[0, 0], [9, 0], [9, 9.5], [0, 0]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring, ring]},
        {"type": "MultiPolygon", "coordinates": [[ring]]},
        {"type": "Point", "coordinates": [1, 2]},
    ]
    label = {"classification": {"name": "Tumor", "color": [1, 2, 3]}, "name": "a"}
    features = [{"type": "Feature", "geometry": each, "properties": label} for each in shapes]
    path = folder / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return lambda: [(region.contains(XY), region.area) for region in read_regions(path)]


def groups(folder: Path) -> Use:
    path = folder / "groups.csv"
    path.write_text("slide,group,note\nS_1,A,x\nS_2,B,\n")
    image = ArrayImage(RGB)
    slides = tuple(Slide(name, image, XY, tuple(map(str, range(12)))) for name in ("S_1", "S_2"))
    return lambda: with_groups(Dataset(Path("data.h5"), slides), path)


def alignment(folder: Path) -> Use:
    path = folder / "alignment.csv"
    path.write_text("slide,dx,dy,scale,confident\nS_1,1.5,-3,1.01,true\nS_2,0,0,1,false\n")
    return lambda: read_table(path)


def cells(folder: Path, suffix: str) -> Use:
    path = folder / f"cells{suffix}"
    table = pd.DataFrame({"x_um": XY[:, 0], "y_um": XY[:, 1], "cell_type": ["a", "b", None] * 4})
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    return lambda: read_cells(path, 0.5)


def manifest(folder: Path) -> Use:
    path = folder / "slides.csv"
    spots = pd.DataFrame({"spot": [f"s{i}" for i in range(12)], "x": XY[:, 0], "y": XY[:, 1]})
    spots.to_csv(folder / "spots.csv", index=False)
    spots[["spot"]].assign(A=1.5, B=2).to_csv(folder / "weights.csv", index=False)
    image(folder, ".svs")
    path.write_text(
        "slide,image,spots,abundances,group,um_per_px\nS_1,he.svs,spots.csv,weights.csv,p1,0.5\n"
    )
    return lambda: [list(bands(slide.image)) for slide in open_dataset(path).slides]


def image(folder: Path, suffix: str) -> Use:
    tifffile = pytest.importorskip("tifffile", reason="pip install 'histoboost[wsi]'")
    path = folder / f"he{suffix}"
    tiled = {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, description="Aperio Image Library v1 |MPP = 0.5", **tiled)
        file.write(RGB[::2, ::2], subfiletype=1, **tiled)
    return lambda: list(bands(open_image(path)))


def ome_zarr(folder: Path, version: int) -> Use:
    import zarr

    path = folder / "he.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    for level in range(2):
        step = 2**level
        data = np.moveaxis(RGB[::step, ::step], -1, 0)
        root.create_array(str(level), data=data, chunks=(3, 16, 16))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scales = [{"type": "scale", "scale": [1, 0.5 * 2**i, 0.5 * 2**i]} for i in range(2)]
    levels = [{"path": str(i), "coordinateTransformations": [s]} for i, s in enumerate(scales)]
    scales = {"axes": [{"name": "c"}, *axes], "datasets": levels}
    channels = [{"label": name} for name in ("red", "green", "blue")]
    attributes = {"multiscales": [scales], "omero": {"channels": channels}}
    root.attrs.update({"ome": attributes} if version == 3 else attributes)
    return lambda: list(bands(open_image(path)))


def config(folder: Path) -> Use:
    path = folder / "histoboost.toml"
    path.write_text(
        'batch-size = 3\n[featurize]\nbackbone = "uni"\npatch = ["32", "64"]\nviews = 8\n'
    )

    def use() -> None:
        root = click.Group(commands={"featurize": featurize})
        with click.Context(root) as above, click.Context(featurize, above, "featurize") as ctx:
            read_config(ctx, featurize.params[0], str(path))

    return use


def store(folder: Path) -> Use:
    path = folder / "store.zarr"
    made = EmbeddingStore(path)
    names = tuple(f"s{i}" for i in range(12))
    abundance = np.ones((12, 2), np.float32)
    made.write_spots(SpotTable("S_1", XY, names, abundance, ("a", "b"), group="p"))
    writer = made.writer("S_1", "net@64", Recipe({"backbone": "net", "patch_px": 64}), 12, 3)
    writer.write_all(XY @ np.ones((2, 3)))

    def use() -> None:
        opened = EmbeddingStore(path, mode="r")
        opened.verify()
        for slide in opened.slides():
            opened.spots(slide)
            for name in opened.embeddings(slide):
                opened.read(slide, name)

    return use


def weights(folder: Path, suffix: str) -> Use:
    import torch
    from safetensors.torch import save_file

    from histoboost.featurize.backbones.weights import read_tuning, read_weights

    path = folder / f"weights{suffix}"
    state = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
    tuned = {"net": state, "tuned_on": [{"slide": "S_1", "pixels": "a", "spots": "b"}]}
    save_file(state, path) if suffix == ".safetensors" else torch.save(tuned, path)
    return lambda: (read_weights(str(path)), read_tuning(path))


def finetuned(folder: Path) -> Use:
    import torch

    from histoboost.finetune.ensemble import Ensemble

    archive = Path(__file__).parent / "finetune" / "data" / "finetune-0.1.0.zip"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder, [name for name in packed.namelist() if "finished" in name])
    slide = Slide("A", ArrayImage(RGB), XY, tuple(map(str, range(12))))
    data = Dataset(Path("data"), (slide,))

    def use() -> None:
        model = Ensemble.load(folder / "finished")
        model.predict(data, device=torch.device("cpu"))
        model.fit_seconds()

    return use


KINDS: list[tuple[Any, ...]] = [
    *[(regions,), (groups,), (alignment,), (manifest,), (config,), (store,), (finetuned,)],
    *[(cells, ".csv"), (cells, ".parquet"), (image, ".svs"), (image, ".tif")],
    *[(ome_zarr, 2), (ome_zarr, 3), (weights, ".pth"), (weights, ".safetensors")],
]


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0].__name__}{kind[1:]}")
def test_a_damaged_file_is_used_or_refused_in_one_line(tmp_path, fuzz, kind, count) -> None:
    make, *options = kind
    fuzz(tmp_path, count, make(tmp_path, *options))
