"""Small spot tables and embeddings, and a store with one slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Skip fsync, which matters for power loss but not for killed processes."""
    if "real_sync" not in request.fixturenames:
        monkeypatch.setattr("histoboost.cache.local.os.fsync", lambda descriptor: None)


@pytest.fixture
def real_sync() -> None:
    """Request this in tests of fsync."""


@pytest.fixture(scope="session")
def table() -> Callable[..., SpotTable]:
    """Make a spot table: ``table(slide, n, **changes)``."""

    def make(slide: str = "S_1", n: int = 2100, **changes) -> SpotTable:
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

    return make


@pytest.fixture(scope="session")
def rows() -> Callable[..., np.ndarray]:
    """Make an embedding: ``rows(n, d, seed)``."""

    def make(n: int = 2100, d: int = 3, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float16)

    return make


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """Make a recipe: ``recipe(**changes)``."""
    return lambda **changes: Recipe({"backbone": "net", "patch_px": 64, **changes})


@pytest.fixture(scope="session")
def put(rows, recipe) -> Callable[..., int]:
    """Store an embedding, ``put(store, slide, name, data, recipe)``; returns chunks computed."""

    def run(store: EmbeddingStore, slide: str, name: str, data=None, own: Recipe | None = None):
        data = rows() if data is None else data
        writer = store.writer(slide, name, own or recipe(), *data.shape)
        missing = len(writer.missing)
        writer.write_all(data)
        return missing

    return run


@pytest.fixture
def store(tmp_path: Path, table) -> EmbeddingStore:
    """A store with the spots of slide S_1 and no embedding."""
    store = EmbeddingStore(tmp_path / "store")
    store.write_spots(table())
    return store


@pytest.fixture
def half_written(store, rows, recipe):
    """Writer of net@64 on slide S_1 with one of three chunks staged."""
    writer = store.writer("S_1", "net@64", recipe(), 2100, 3)
    writer.write(slice(0, 1024), rows()[:1024])
    return writer


@pytest.fixture(scope="session")
def files() -> Callable[[str | Path], dict[str, bytes]]:
    """Read the published files of a store: ``files(location)``."""

    def read(location: str | Path) -> dict[str, bytes]:
        top = Path(location)
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file() and ".staging" not in path.parts
        }

    return read
