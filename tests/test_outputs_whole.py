"""Every output file is either the old or the complete new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from histoboost.errors import HistoboostError
from histoboost.io import write_text
from histoboost.phantom import write_phantom
from histoboost.regress.model import CompositionRegressor


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Only `full` needs fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_store) -> Path:
    """Slides, a store and a model."""
    folder = tmp_path_factory.mktemp("outputs")
    write_phantom(folder / "data.h5", slides=1, unlabelled=0, spots=12)
    store = make_store(folder, "abc", dict.fromkeys(("S_1", "S_2", "S_3"), 25), unlabelled="S_3")
    CompositionRegressor(model="ridge").fit(store).save(folder / "m")
    return folder


#: Commands with a word that they print.
COMMANDS = {
    "evaluate s.zarr --model ridge --json out.json": "per-spot",
    "ablate s.zarr --features mine+coords --leave-one-out --model ridge --fresh --json out.json": (
        "mine+coords"
    ),
    "inspect data.h5 --json out.json": "S_1",
    "cache list s.zarr --json out.json": "mine",
    "cache verify s.zarr --json out.json": "",
    "cache export s.zarr out.h5ad": "",
    "align data.h5 -o out.csv": "",
    **{
        f"predict s.zarr m -o out.{suffix}": ""
        for suffix in ["csv", "h5ad", "geojson", "png", "html"]
    },
    "explore s.zarr -o out.html": "",
    "report s.zarr m -o out.html": "",
}


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("command", "printed"), COMMANDS.items())
def test_a_full_disk_leaves_the_old_output_and_what_was_printed(
    run, succeeds, folder, monkeypatch, command, printed
):
    monkeypatch.chdir(folder)
    [path] = [Path(part) for part in command.split() if part.startswith("out.")]
    path.write_text("old")
    before = sorted(name for name in os.listdir(folder) if "overlays" not in name)
    with monkeypatch.context() as patch:
        patch.setattr("histoboost.io.os.fsync", full)
        result = run(*command.split())
    assert result.exit_code == 2, result.output
    assert "No space left on device" in result.stderr
    assert path.read_text() == "old"
    assert sorted(name for name in os.listdir(folder) if "overlays" not in name) == before
    assert printed in result.stdout
    succeeds(*command.split())
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
