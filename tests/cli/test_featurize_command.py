"""`histoboost featurize`, `inspect` and `backbones` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.cli.inspect import print_slides


def histoboost(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_featurize_then_again_computes_nothing(tmp_path: Path, phantom_h5: Path):
    command = ("featurize", phantom_h5, tmp_path / "store", "--backbone", "stain-texture")
    first = histoboost(*command, "--patch", "16,24", "--device", "cpu", "--batch-size", 8)
    assert first.exit_code == 0, first.output
    assert "patches/s" in first.output
    for share in ("read", "crop", "forward", "write"):
        assert share in first.output
    again = histoboost(*command, "--patch", "16,24")
    assert again.exit_code == 0
    assert "nothing computed" in again.output
    assert list(EmbeddingStore(tmp_path / "store").embeddings("S_1")) == [
        "stain-texture@16",
        "stain-texture@24",
    ]


def test_every_option_takes_effect(tmp_path: Path, phantom_h5: Path, tiny_net: str):
    (tmp_path / "groups.csv").write_text("slide,group\nS_1,A\nS_2,B\nS_3,C\nS_4,D\n")
    result = histoboost(
        *("featurize", phantom_h5, tmp_path / "store", "--backbone", tiny_net, "--patch", "16"),
        *("--weights", "random", "--views", 8, "--precision", "bf16", "--engine", "torch"),
        *("--groups", tmp_path / "groups.csv", "--name", "mine"),
    )
    assert result.exit_code == 0, result.output
    store = EmbeddingStore(tmp_path / "store")
    fields = store.embeddings("S_2")["mine"].fields
    assert (fields["views"], fields["precision"]) == (8, "bf16")
    assert store.spots("S_2").group == "B"


def test_a_config_file_gives_defaults(tmp_path: Path, phantom_h5: Path):
    (tmp_path / "run.toml").write_text(
        '[featurize]\nbackbone = "stain-texture"\npatch = [16]\nviews = 1\nbatch-size = 4\n'
    )
    result = histoboost(
        "featurize", phantom_h5, tmp_path / "store", "--config", tmp_path / "run.toml"
    )
    assert result.exit_code == 0, result.output
    assert list(EmbeddingStore(tmp_path / "store").embeddings("S_1")) == ["stain-texture@16"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "resnet81", "--patch", "16"], "unknown; did you mean"),
        (["--backbone", "stain-texture"], "no patch size given"),
        (["--backbone", "stain-texture", "--patch", "64px?"], "is no size"),
        (["--backbone", "stain-texture", "--patch", "16", "--views", "3"], "give 1 or 8"),
        (["--backbone", "stain-texture", "--patch", "16", "--engine", "tpu"], "unknown"),
        (["--backbone", "stain-texture", "--patch", "16", "--precision", "x"], "unknown"),
        (["--backbone", "stain-texture", "--patch", "16", "--device", "gpu"], "unknown"),
        (["--backbone", "stain-texture", "--patch", "16", "--groups", "none.csv"], "no such"),
        (["--backbone", "resnet18", "--patch", "16", "--weights", "no.pth"], "no such weights"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(tmp_path, phantom_h5, options, message):
    result = histoboost("featurize", phantom_h5, tmp_path / "store", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["inspect", "featurize"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "no such file"),
        ("text", "a file in none of the formats"),
        ("no spots", "no 'spots' group"),
        ("no x", "no column 'x'"),
        ("rank", "must be (H, W, 3)"),
    ],
)
def test_bad_files_are_one_line_and_exit_2(tmp_path, command, change, message):
    path = tmp_path / "data.h5"
    if change == "text":
        path.write_text("x")
    elif change is not None:
        spots = np.zeros(3, [("z" if change == "no x" else "x", "f8"), ("y", "f8")])
        with h5py.File(path, "w") as file:
            shape = (20, 20) if change == "rank" else (20, 20, 3)
            file["images/Train/S_1"] = np.zeros(shape, np.uint8)
            if change != "no spots":
                file["spots/Train/S_1"] = spots
    store = [tmp_path / "store", "--backbone", "none"] if command == "featurize" else []
    result = histoboost(command, path, *store)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "data.h5" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("xy", "value", "message"),
    [
        ((np.nan, 3.0), 0.5, "not finite"),
        ((3.0, 40.0), 0.5, "outside the image"),
        ((3.0, 3.0), 2.0, "0..1"),
    ],
)
def test_spots_and_pixels_that_cannot_be_used_are_one_line(tmp_path, xy, value, message):
    path = tmp_path / "data.h5"
    pixels = np.random.default_rng(0).random((20, 20, 3), np.float32)
    pixels[5, 5] = value
    with h5py.File(path, "w") as file:
        file["images/Train/S_1"] = pixels
        file["spots/Train/S_1"] = np.array([xy], [("x", "f8"), ("y", "f8")])
    result = histoboost(
        *("featurize", path, tmp_path / "store", "--backbone", "stain-texture", "--patch", "8")
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    # inspect reports the same, beside all that is well.
    assert histoboost("inspect", path, "--json", tmp_path / "found.json").exit_code == 0
    assert json.loads((tmp_path / "found.json").read_text())["problems"]


def test_a_store_path_that_is_a_file_is_one_line(tmp_path: Path, phantom_h5: Path):
    (tmp_path / "store").write_text("precious")
    result = histoboost("featurize", phantom_h5, tmp_path / "store", "--backbone", "none")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "store").read_text() == "precious"


def test_a_folder_of_other_things_is_no_store(tmp_path: Path, phantom_h5: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("precious")
    result = histoboost("featurize", phantom_h5, tmp_path / "folder", "--backbone", "none")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["thesis.txt"]


def test_inspect_shows_slides_and_writes_json(tmp_path: Path, phantom_h5: Path):
    result = histoboost("inspect", phantom_h5, "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    assert "S_1" in result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [slide["slide"] for slide in found["slides"]] == ["S_1", "S_2", "S_3", "S_4"]
    assert [slide["labelled"] for slide in found["slides"]] == [True, True, True, False]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The table of `inspect` for a slide, as it is printed on so many columns."""

    def show(columns: int, **known: object) -> str:
        slide = {
            "slide": "S_1",
            "split": "Train",
            "group": None,
            "spots": 2197,
            "labelled": True,
            "image_shape": [2000, 1950, 3],
            "image_dtype": "float32",
            "pitch_px": 25.91,
            "um_per_px": None,
            "abundance_range": [1e-6, 9.1],
        }
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))
        print_slides([{**slide, **known}])
        return click.unstyle(capsys.readouterr().out)

    return show


def test_inspect_shows_group_and_scale_where_a_slide_has_one(shown):
    assert "um/px" not in shown(120)
    assert "group" not in shown(120)
    assert "um/px" in shown(120, um_per_px=4.02)
    assert "patient A" in shown(120, group="patient A")


def test_inspect_says_which_side_of_an_image_is_which(shown):
    assert "width x height" in shown(120)
    assert "1950 x 2000" in shown(120)


@pytest.mark.parametrize("columns", [80, 120])
def test_inspect_cuts_off_nothing(shown, columns: int):
    text = shown(columns, group="patient A", um_per_px=4.02)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert all(len(line) <= columns for line in text.splitlines())
    for word in ("patient", "height", "float32", "um/px", "4.02", "25.91", "1e-06", "abundance"):
        assert word in text.split()


def test_backbones_lists_them(tmp_path: Path):
    result = histoboost("backbones")
    assert result.exit_code == 0
    for name in ("resnet50", "stain-texture", "convnext_tiny"):
        assert name in result.output
