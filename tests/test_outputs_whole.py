"""Every output file is either the old or the complete new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostError
from histoboost.io import write_text
from histoboost.phantom import write_phantom
from histoboost.regress.model import CompositionRegressor
from histoboost.spots import SpotTable


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Only `full` needs fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, a store and a model."""
    folder = tmp_path_factory.mktemp("outputs")
    write_phantom(folder / "data.h5", slides=1, unlabelled=0, spots=12)
    rng = np.random.default_rng(0)
    store = EmbeddingStore(folder / "s.zarr")
    (folder / "arrays").mkdir()
    xy = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2) * 20
    for slide in ("S_1", "S_2", "S_3"):
        latent = rng.normal(size=(25, 3))
        labels = (np.exp(latent).astype(np.float32), ("a", "b", "c"))
        store.write_spots(
            SpotTable(slide, xy, tuple(map(str, range(25))), *(labels if slide != "S_3" else ()))
        )
        np.save(folder / "arrays" / f"{slide}.npy", latent.astype(np.float32))
    store.import_arrays("mine", folder / "arrays")
    CompositionRegressor(model="ridge").fit(store).save(folder / "m")
    return folder


COMMANDS = {
    "evaluate": ["evaluate", "s.zarr", "--model", "ridge", "--json", "OUT.json"],
    "ablate": ["ablate", "s.zarr", "--features", "mine+coords", "--leave-one-out"]
    + ["--model", "ridge", "--fresh", "--json", "OUT.json"],
    "inspect": ["inspect", "data.h5", "--json", "OUT.json"],
    "list": ["cache", "list", "s.zarr", "--json", "OUT.json"],
    "verify": ["cache", "verify", "s.zarr", "--json", "OUT.json"],
    "align": ["align", "data.h5", "-o", "OUT.csv"],
    "predict csv": ["predict", "s.zarr", "m", "-o", "OUT.csv"],
    "predict h5ad": ["predict", "s.zarr", "m", "-o", "OUT.h5ad"],
    "predict geojson": ["predict", "s.zarr", "m", "-o", "OUT.geojson"],
    "predict png": ["predict", "s.zarr", "m", "-o", "OUT.png"],
    "predict html": ["predict", "s.zarr", "m", "-o", "OUT.html"],
    "explore": ["explore", "s.zarr", "-o", "OUT.html"],
    "report": ["report", "s.zarr", "m", "-o", "OUT.html"],
    "export": ["cache", "export", "s.zarr", "OUT.h5ad"],
}
PRINTS = {"evaluate": "per-spot", "ablate": "mine+coords", "inspect": "S_1", "list": "mine"}


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_leaves_the_old_output_and_what_was_printed(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = [part.replace("OUT", f"out-{command[:4]}") for part in COMMANDS[command]]
    [path] = [Path(part) for part in arguments if part.startswith("out-")]
    path.write_text("old")
    before = sorted(name for name in os.listdir(folder) if "overlays" not in name)
    with monkeypatch.context() as patch:
        patch.setattr("histoboost.io.os.fsync", full)
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert "No space left on device" in result.stderr
    assert path.read_text() == "old"
    assert sorted(name for name in os.listdir(folder) if "overlays" not in name) == before
    assert PRINTS.get(command, "") in result.stdout
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert path.read_bytes() != b"old"


def test_an_output_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "target.json").write_text("old")
    link = tmp_path / "out.json"
    link.symlink_to(tmp_path / "target.json")
    write_text(link, json.dumps("new"))
    assert link.is_symlink()
    assert (tmp_path / "target.json").read_text() == '"new"'


def test_an_output_with_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 250 + ".csv"), "a")
    with pytest.raises(HistoboostError, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "a.csv", "a")
