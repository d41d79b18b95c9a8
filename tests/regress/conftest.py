"""A small store with embeddings that are informative of the abundances."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.regress.bundle import digest_of
from histoboost.regress.features import FeatureMatrix, assemble
from histoboost.regress.layout import Layout, describe
from histoboost.regress.slides import named_slides
from histoboost.spots import SpotTable

TYPES = tuple(f"C{i}" for i in range(1, 7))


def hexagonal(rows: int, columns: int, pitch: float = 25.0) -> NDArray[np.float64]:
    """Centres (rows * columns, 2) of a hexagonal lattice."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    centres = np.stack([(x + 0.5 * (y % 2)) * pitch, y * pitch * np.sqrt(3) / 2], axis=-1)
    return centres.reshape(-1, 2)


def add_embedding(
    store: EmbeddingStore, slide: str, name: str, values: NDArray[np.float32], **fields: object
) -> None:
    """Publish `values` under `name`."""
    recipe = Recipe({"backbone": name, "slide_pixels": slide, **fields})
    writer = store.writer(slide, name, recipe, *values.shape)
    for rows in writer.missing:
        writer.write(rows, values[rows].astype(np.float16))
    writer.publish()


def fill_store(path: Path, *, shuffled: bool = False, slides: int = 4, seed: int = 0) -> Path:
    """Slides A, B, ... (the last without labels) of 9 x 8 spots, embeddings net@32 and net@64."""
    rng = np.random.default_rng(seed)
    store = EmbeddingStore(path)
    mixing = {32: rng.normal(size=(4, 12)), 64: rng.normal(size=(4, 10))}
    loadings = rng.normal(size=(4, len(TYPES)))
    levels = np.linspace(-1.5, 1.5, len(TYPES))
    xy = hexagonal(9, 8)
    for index, slide in enumerate("ABCDEFGH"[:slides]):
        waves = rng.normal(size=(2, 4)) / 60
        latent = np.sin(xy @ waves + rng.uniform(0, 6, 4)) * 1.5
        abundance = np.exp(levels + latent @ loadings / 2 + 0.3 * rng.normal(size=(len(xy), 6)))
        if shuffled:
            abundance = rng.permutation(abundance)
        labelled = index < slides - 1
        store.write_spots(
            SpotTable(
                slide,
                xy + 100,
                tuple(map(str, range(len(xy)))),
                abundance.astype(np.float32) if labelled else None,
                TYPES if labelled else (),
                split="Train" if labelled else "Test",
                group="p1" if index < 2 else f"p{index}",
            )
        )
        for patch, mix in mixing.items():
            noise = 0.3 * rng.normal(size=(len(xy), mix.shape[1]))
            values = (latent @ mix + noise + rng.normal(size=mix.shape[1])).astype(np.float32)
            add_embedding(store, slide, f"net@{patch}", values, patch_px=patch)
    return path


def layout_of(store: EmbeddingStore, slides: Sequence[str], features: str) -> Layout:
    """The layout of `features` for these slides."""
    return describe(store, named_slides(store, slides), features)


def matrix_of(
    store: EmbeddingStore, slides: Sequence[str], features: str, standardize: str = "slide"
) -> FeatureMatrix:
    """The matrix of `features` for these slides."""
    return assemble(store, layout_of(store, slides, features), standardize)


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `model.json` together with its digest, as an attacker would."""
    document = json.loads((bundle / "model.json").read_text())
    change(document)
    document["digest"] = digest_of(document)
    (bundle / "model.json").write_text(json.dumps(document))


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Replace a file together with its digest, as an attacker would."""
    digest = hashlib.sha256(data).hexdigest()
    stem, _, suffix = name.rpartition(".")
    (bundle / f"{stem}-{digest}.{suffix}").write_bytes(data)
    rewrite(bundle, lambda document: document["files"].update({name: digest}))


@pytest.fixture(scope="session")
def store_path(tmp_path_factory):
    """Three labelled slides A, B, C and the unlabelled D; read only."""
    return fill_store(tmp_path_factory.mktemp("regress") / "store.zarr")


@pytest.fixture(scope="session")
def store(store_path):
    """The same, opened for reading."""
    return EmbeddingStore(store_path, mode="r")


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Another store, with the arguments of `fill_store`."""

    def make(**arguments: bool | int) -> EmbeddingStore:
        return EmbeddingStore(fill_store(tmp_path_factory.mktemp("more") / "s.zarr", **arguments))

    return make
