"""Run commands in this process, and make small stores for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.spots import SpotTable


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Run histoboost with these arguments."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), prog_name="histoboost")

    return run


@pytest.fixture(scope="session")
def succeeds(run) -> Callable[..., Result]:
    """Run histoboost with these arguments, which must succeed."""

    def succeeds(*arguments: object) -> Result:
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return result

    return succeeds


@pytest.fixture(scope="session")
def refusal(run) -> Callable[..., str]:
    """Run histoboost with bad input and return its one line of error, below any warnings."""

    def refusal(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        *warnings, line = result.stderr.splitlines()
        assert all(warning.startswith("Warning: ") for warning in warnings)
        return line

    return refusal


@pytest.fixture(scope="session")
def make_store() -> Callable[..., str]:
    """Make a store with an imported embedding, "mine", that is informative of the cell types."""

    def make_store(folder: Path, types: str, spots: Mapping[str, int], unlabelled: str = "") -> str:
        store, rng = EmbeddingStore(folder / "s.zarr"), np.random.default_rng(0)
        weights = rng.normal(size=(3, len(types)))
        (folder / "arrays").mkdir()
        for slide, n in spots.items():
            latent = rng.normal(size=(n, 3)).astype(np.float32)
            abundance = np.exp(latent @ weights + np.arange(len(types))).astype(np.float32)
            labels = () if slide == unlabelled else (abundance, tuple(types))
            xy = 20.0 * np.stack(np.divmod(np.arange(n), 6)[::-1], axis=1)
            store.write_spots(SpotTable(slide, xy, tuple(map(str, range(n))), *labels))
            np.save(folder / "arrays" / f"{slide}.npy", latent)
        store.import_arrays("mine", folder / "arrays")
        return str(folder / "s.zarr")

    return make_store
