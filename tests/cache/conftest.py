"""Small tables and embeddings, and a way to store them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable

Fill = Callable[..., EmbeddingStore]


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What a killed process has written survives without fsync; only power loss needs it."""
    if "real_sync" not in request.fixturenames:
        monkeypatch.setattr("histoboost.cache.local.os.fsync", lambda descriptor: None)


@pytest.fixture
def real_sync() -> None:
    """Ask for this in a test that watches fsync."""


def _table(slide: str = "S_1", n: int = 2100, **changes) -> SpotTable:
    rng = np.random.default_rng(0)
    fields = {
        "slide": slide,
        "xy": rng.random((n, 2)) * 100,
        "spot_ids": tuple(f"spot-{i}" for i in range(n)),
        "abundance": rng.random((n, 4)).astype(np.float32),
        "cell_types": ("a", "bü", "c/d", "e"),
        "split": "Train",
        "group": "patient 1",
        "um_per_px": 4.4,
        "image_shape": (100, 120),
    }
    return SpotTable(**{**fields, **changes})


def _rows(n: int = 2100, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float16)


def _recipe(**changes) -> Recipe:
    return Recipe({"backbone": "net", "patch_px": 64, **changes})


def _put(
    store: EmbeddingStore,
    slide: str,
    name: str,
    data: np.ndarray | None = None,
    recipe: Recipe | None = None,
) -> int:
    """Store an embedding as `featurize` does; returns the number of chunks it had to compute."""
    data = _rows() if data is None else data
    writer = store.writer(slide, name, recipe or _recipe(), *data.shape)
    missing = writer.missing
    for part in missing:
        writer.write(part, data[part])
    writer.publish()
    return len(missing)


@pytest.fixture(scope="session")
def table():
    """Make a spot table: ``table(slide, n, **changes)``."""
    return _table


@pytest.fixture(scope="session")
def rows():
    """Make an embedding: ``rows(n, d, seed)``."""
    return _rows


@pytest.fixture(scope="session")
def recipe():
    """Make a recipe: ``recipe(**changes)``."""
    return _recipe


@pytest.fixture(scope="session")
def put():
    """Store an embedding: ``put(store, slide, name, data, recipe)``."""
    return _put


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """A store with the spots of slide S_1 and no embedding."""
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(_table())
    return store


@pytest.fixture(scope="session")
def files():
    """Read a store's published files: ``files(location)``, path to bytes, staging left out."""

    def read(location: str | Path) -> dict[str, bytes]:
        top = Path(location)
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file() and ".staging" not in path.parts
        }

    return read
