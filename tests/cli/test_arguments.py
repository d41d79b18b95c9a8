"""Arguments in the wrong order, outputs that are inputs, and very few cell types."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.spots import SpotTable


def made_store(folder: Path, types: int) -> Path:
    """Three labelled slides and S_4, with an embedding `mine`."""
    rng = np.random.default_rng(0)
    store = EmbeddingStore(folder / "s.zarr")
    (folder / "arrays").mkdir()
    xy = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2) * 20
    for slide in ("S_1", "S_2", "S_3", "S_4"):
        latent = rng.normal(size=(25, 3)).astype(np.float32)
        labels = (np.exp(latent[:, :types]), tuple("abc"[:types])) if slide != "S_4" else ()
        store.write_spots(SpotTable(slide, xy, tuple(map(str, range(25))), *labels))
        np.save(folder / "arrays" / f"{slide}.npy", latent)
    store.import_arrays("mine", folder / "arrays")
    return folder / "s.zarr"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> Path:
    """A store, a model and slides."""
    folder = tmp_path_factory.mktemp("swapped")
    store = made_store(folder, 3)
    assert run("train", str(store), str(folder / "m"), "--model", "ridge").exit_code == 0
    (folder / "data.h5").symlink_to(phantom_h5)
    return folder


@pytest.mark.parametrize(
    ("command", "order"),
    [
        ("featurize s.zarr data.h5 --backbone none", "featurize DATA STORE"),
        ("featurize new.zarr data.h5 --backbone none", "featurize DATA STORE"),
        ("inspect s.zarr", "inspect DATA"),
        ("align m", "align DATA"),
        ("explore m", "explore DATA"),
        ("finetune s.zarr out", "finetune DATA OUT"),
        ("evaluate data.h5", "evaluate STORE"),
        ("evaluate m", "evaluate STORE"),
        ("ablate data.h5 --features a --features b", "ablate STORE"),
        ("train data.h5 model", "train STORE MODEL"),
        ("train m s.zarr", "train STORE MODEL"),
        ("predict m s.zarr -o o.csv", "predict STORE MODEL"),
        ("predict s.zarr data.h5 -o o.csv", "predict STORE MODEL"),
        ("report m s.zarr", "report STORE MODEL"),
        ("report data.h5 m", "report STORE MODEL"),
        ("cache list data.h5", "cache list STORE"),
        ("cache verify m", "cache verify STORE"),
        ("cache relabel data.h5 s.zarr", "cache relabel STORE DATA"),
    ],
)
def test_swapped_arguments_are_told_the_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, order: str
) -> None:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, command.split(), prog_name="histoboost")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"; expected histoboost {order}\n")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", ["align data.csv -o data.csv", "inspect data.csv --json data.csv"]
)
def test_an_output_never_replaces_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("slide,image\n")
    result = run(*command.split())
    assert result.exit_code == 2
    assert "data.csv: is an input of this command; choose another output" in result.stderr
    assert Path("data.csv").read_text() == "slide,image\n"


@pytest.mark.parametrize("inside", ["m", "s.zarr"])
@pytest.mark.parametrize(
    "command",
    [
        "show m --json {}",
        "predict s.zarr m -o o.csv --json {}",
        "predict s.zarr m -o {}.csv",
        "map data.h5 m -o {}.csv",
        "evaluate s.zarr --predictions {}.csv",
        "report s.zarr m -o {}",
    ],
)
def test_nothing_is_written_into_a_model_or_a_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, inside: str
) -> None:
    monkeypatch.chdir(folder)
    before = Path("m/model.json").read_bytes()
    result = run(*command.format(f"{inside}/model.json").split())
    assert result.exit_code == 2
    assert f"lies in {inside}, " in result.stderr
    assert Path("m/model.json").read_bytes() == before


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    "command",
    [
        "map data.h5 m -o o.csv --um-per-px",
        "featurize data.h5 new.zarr --backbone none --um-per-px",
        "predict s.zarr m -o o.csv --interval",
        "evaluate s.zarr --smooth",
        "cache gc s.zarr --older-than",
        "finetune data.h5 new --smooth",
    ],
)
def test_an_option_that_is_a_number_is_a_finite_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, value: str
) -> None:
    monkeypatch.chdir(folder)
    result = run(*command.split(), value)
    assert result.exit_code == 2
    assert command.split()[-1] in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        "inspect data.h5 --json -",
        "align data.h5 -o o --json ./o",
        "evaluate s.zarr --predictions o.csv --json o.csv",
        "predict s.zarr m -o o.csv --json o.csv",
        "map data.h5 m -o o.csv -o ./o.csv",
        "map data.h5 m -o {slide}.csv -o S_1.csv",
        "map data.h5 m -o o.csv --json o.csv",
        "map data.h5 m -o o.h5ad -o o.regions.csv --regions drawn.geojson",
    ],
)
def test_no_output_replaces_another_of_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    Path("drawn.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}'
    )
    result = run(*command.split())
    assert result.exit_code == (0 if command.endswith("-") else 2), result.output
    assert ("would be written twice" in result.stderr) == (not command.endswith("-"))


def commands(group: click.Group) -> list[str]:
    """Every command of the group, and below it, as one writes it."""
    found: list[str] = []
    for name, command in group.commands.items():
        below = commands(command) if isinstance(command, click.Group) else [""]
        found += [f"{name} {one}".strip() for one in below]
    return found


@pytest.mark.parametrize(
    "command",
    [*(f"{command} --config a --config b" for command in commands(main))]
    + ["train s.zarr new --slides S_1 --slides S_2", "predict s.zarr m -o a.csv --output b.csv"],
)
def test_an_option_that_takes_one_value_is_not_taken_twice_in_silence(command: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 2
    rest = "the last one counts" if "--config" in command else "give it once"
    assert f"is given 2 times; {rest}" in result.stderr


def test_a_prediction_never_replaces_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 60)).save("a.png")
    before = Path("a.png").read_bytes()
    Path("a.csv").write_text("spot,x,y\np,30,30\nq,20,20\n")
    Path("data.csv").write_text("slide,image,spots\na,a.png,a.csv\n")
    Path("cnn").mkdir()
    Path("cnn/finetune.json").write_text("{}")
    result = run("predict", "data.csv", "cnn", "-o", "{slide}.png")
    assert result.exit_code == 2
    assert "a.png: is an input of this command; choose another output" in result.stderr
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize("types", [1, 2])
def test_one_or_two_cell_types_go_through_every_command(tmp_path: Path, types: int) -> None:
    store, model = str(made_store(tmp_path, types)), str(tmp_path / "m")
    few = ("--set", "n_estimators=2", "--jobs", "1")
    for name in ("stack", "lightgbm", "ridge", "kernel", "coords", "mean", "mean-rank"):
        more = few if name in ("stack", "lightgbm") else ()
        scores = tmp_path / "scores.json"
        done = run("evaluate", store, "--model", name, *more, "--json", str(scores))
        assert done.exit_code == 0, done.output
        mean = json.loads(scores.read_text())["mean"]
        assert all(np.isfinite(list(mean.values())))
        done = run("train", store, model, "--model", name, *more)
        assert done.exit_code == 0, done.output
        for units in ("rank", "rank-slide", "softmax", "minmax", "abundance", "none"):
            output = tmp_path / "o.csv"
            done = run("predict", store, model, "-o", str(output), "--units", units)
            assert done.exit_code == 0, done.output
            assert np.isfinite(np.loadtxt(output, delimiter=",", skiprows=1)).all()
    for command in (
        ("ablate", store, "--features", "mine", "--features", "coords", "--model", "ridge"),
        ("report", store, model, "-o", str(tmp_path / "r.html")),
        ("explore", store, "-o", str(tmp_path / "e.html")),
        ("cache", "export", store, str(tmp_path / "x.h5ad")),
    ):
        done = run(*command, *(("--fresh",) if command[0] == "ablate" else ()))
        assert done.exit_code == 0, done.output
