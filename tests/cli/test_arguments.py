"""Arguments in the wrong order, outputs that are inputs, and very few cell types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPOTS = dict.fromkeys(["S_1", "S_2", "S_3", "S_4"], 25)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path, make_store, succeeds) -> Path:
    """A folder with slides (data.h5), a store (s.zarr), a model (m) and a region."""
    made = tmp_path_factory.mktemp("made")
    store = make_store(made, "abc", SPOTS, unlabelled="S_4")
    succeeds("train", store, made / "m", "--model", "ridge")
    (made / "data.h5").symlink_to(phantom_h5)
    (made / "drawn.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}'
    )
    return made


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder `made`."""
    monkeypatch.chdir(made)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "order"),
    [
        ("featurize s.zarr data.h5 --backbone none", "featurize DATA STORE"),
        ("featurize new.zarr data.h5 --backbone none", "featurize DATA STORE"),
        ("inspect s.zarr", "inspect DATA"),
        ("align m", "align DATA"),
        ("explore m", "explore DATA"),
        ("finetune s.zarr out", "finetune DATA OUT"),
        ("evaluate m", "evaluate STORE"),
        ("train m s.zarr", "train STORE MODEL"),
        ("predict m s.zarr -o o.csv", "predict STORE MODEL"),
        ("predict s.zarr data.h5 -o o.csv", "predict STORE MODEL"),
        ("report m s.zarr", "report STORE MODEL"),
        ("cache verify m", "cache verify STORE"),
        ("cache relabel data.h5 s.zarr", "cache relabel STORE DATA"),
    ],
)
def test_swapped_arguments_are_told_the_order(refusal, command, order):
    assert refusal(*command.split()).endswith(f"; expected histoboost {order}")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "command",
    [
        "evaluate data.h5",
        "ablate data.h5 --features a --features b",
        "train data.h5 model",
        "report data.h5 m",
        "predict data.h5 m -o o.csv",
        "cache list data.h5",
    ],
)
def test_data_given_for_a_store_is_to_be_featurized_first(refusal, command):
    line = refusal(*command.split())
    assert "data.h5: is a file, not a store; run histoboost featurize on it first" in line


@pytest.mark.usefixtures("folder")
def test_predict_names_the_model_that_lacks_intervals(refusal):
    line = refusal("predict", "s.zarr", "m", "-o", "o.csv", "--interval", 0.9)
    assert "m: was trained without prediction intervals; train it again with --intervals" in line


@pytest.mark.parametrize(
    "command", ["align data.csv -o data.csv", "inspect data.csv --json data.csv"]
)
def test_an_output_never_replaces_an_input(refusal, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("slide,image\n")
    line = refusal(*command.split())
    assert "data.csv: is an input of this command; choose another output" in line
    assert Path("data.csv").read_text() == "slide,image\n"


@pytest.mark.usefixtures("folder")
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
def test_nothing_is_written_into_a_model_or_a_store(refusal, command, inside):
    before = Path("m/model.json").read_bytes()
    line = refusal(*command.format(f"{inside}/model.json").split())
    assert f"is inside {inside}, " in line
    assert Path("m/model.json").read_bytes() == before


@pytest.mark.usefixtures("folder")
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
def test_numbers_must_be_finite(refusal, command, value):
    assert command.split()[-1] in refusal(*command.split(), value)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "command",
    [
        "align data.h5 -o o --json ./o",
        "evaluate s.zarr --predictions o.csv --json o.csv",
        "predict s.zarr m -o o.csv --json o.csv",
        "map data.h5 m -o o.csv -o ./o.csv",
        "map data.h5 m -o {slide}.csv -o S_1.csv",
        "map data.h5 m -o o.csv --json o.csv",
        "map data.h5 m -o o.h5ad -o o.regions.csv --regions drawn.geojson",
    ],
)
def test_no_output_replaces_another_of_the_same_command(refusal, command):
    assert "would be written twice" in refusal(*command.split())


def test_a_prediction_never_replaces_an_image(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 60)).save("a.png")
    before = Path("a.png").read_bytes()
    Path("a.csv").write_text("spot,x,y\np,30,30\nq,20,20\n")
    Path("data.csv").write_text("slide,image,spots\na,a.png,a.csv\n")
    Path("cnn").mkdir()
    Path("cnn/finetune.json").write_text("{}")
    line = refusal("predict", "data.csv", "cnn", "-o", "{slide}.png")
    assert "a.png: is an input of this command; choose another output" in line
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize("types", ["a", "ab"])
def test_one_or_two_cell_types_go_through_every_command(tmp_path, make_store, succeeds, types):
    store, model = make_store(tmp_path, types, SPOTS, unlabelled="S_4"), tmp_path / "m"
    scores, output = tmp_path / "scores.json", tmp_path / "o.csv"
    for name in ("stack", "lightgbm", "ridge", "kernel", "coords", "mean", "mean-rank"):
        few = ("--set", "n_estimators=2") if name in ("stack", "lightgbm") else ()
        succeeds("evaluate", store, "--model", name, *few, "--jobs", 1, "--json", scores)
        assert np.isfinite(list(json.loads(scores.read_text())["mean"].values())).all()
        succeeds("train", store, model, "--model", name, *few, "--jobs", 1)
        for units in ("rank", "rank-slide", "softmax", "minmax", "abundance", "none"):
            succeeds("predict", store, model, "-o", output, "--units", units)
            assert np.isfinite(np.loadtxt(output, delimiter=",", skiprows=1)).all()
    specs = ("--features", "mine", "--features", "coords")
    succeeds("ablate", store, *specs, "--model", "ridge", "--fresh")
    succeeds("report", store, model, "-o", tmp_path / "r.html")
    succeeds("explore", store, "-o", tmp_path / "e.html")
    succeeds("cache", "export", store, tmp_path / "x.h5ad")
