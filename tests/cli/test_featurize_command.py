"""`histoboost featurize`, `inspect` and `backbones` on the command line."""

from __future__ import annotations

import json

import click
import h5py
import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.cli.inspect import print_slides


def test_featurize_then_again_computes_nothing(succeeds, tmp_path, phantom_h5):
    command = ("featurize", phantom_h5, tmp_path / "store", "--backbone", "stain-texture")
    first = succeeds(*command, "--patch", "16,24", "--device", "cpu", "--batch-size", 8)
    for part in ("patches/s", "read", "crop", "forward", "write"):
        assert part in first.output
    assert "nothing computed" in succeeds(*command, "--patch", "16,24").output
    embeddings = EmbeddingStore(tmp_path / "store").embeddings("S_1")
    assert list(embeddings) == ["stain-texture@16", "stain-texture@24"]


def test_every_option_takes_effect(succeeds, tmp_path, phantom_h5, tiny_net):
    (tmp_path / "groups.csv").write_text("slide,group\nS_1,A\nS_2,B\nS_3,C\nS_4,D\n")
    (tmp_path / "run.toml").write_text(f'[featurize]\nbackbone = "{tiny_net}"\npatch = [16]\n')
    succeeds(
        *("featurize", phantom_h5, tmp_path / "store", "--config", tmp_path / "run.toml"),
        *("--weights", "random", "--views", 8, "--precision", "bf16", "--engine", "torch"),
        *("--groups", tmp_path / "groups.csv", "--name", "mine"),
    )
    store = EmbeddingStore(tmp_path / "store")
    fields = store.embeddings("S_2")["mine"].fields
    assert (fields["patch_px"], fields["views"], fields["precision"]) == (16, 8, "bf16")
    assert store.spots("S_2").group == "B"


VALID = "--backbone stain-texture --patch 16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--backbone resnet81 --patch 16", "unknown; did you mean"),
        ("--backbone stain-texture", "no patch size given"),
        ("--backbone stain-texture --patch 64px?", "is no size"),
        (f"{VALID} --views 3", "give 1 or 8"),
        (f"{VALID} --engine tpu", "unknown"),
        (f"{VALID} --precision x", "unknown"),
        (f"{VALID} --device gpu", "unknown"),
        (f"{VALID} --groups none.csv", "no such"),
        ("--backbone resnet18 --patch 16 --weights no.pth", "no such weights"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(refusal, tmp_path, phantom_h5, options, message):
    assert message in refusal("featurize", phantom_h5, tmp_path / "store", *options.split())
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
def test_bad_files_are_one_line_and_exit_2(refusal, tmp_path, command, change, message):
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
    line = refusal(command, path, *store)
    assert message in line
    assert "data.h5" in line


@pytest.mark.parametrize(
    ("xy", "value", "message"),
    [
        ((np.nan, 3.0), 0.5, "not finite"),
        ((3.0, 40.0), 0.5, "outside the image"),
        ((3.0, 3.0), 2.0, "0..1"),
    ],
)
def test_unusable_spots_and_pixels_are_refused_and_listed_by_inspect(
    refusal, succeeds, tmp_path, xy, value, message
):
    path = tmp_path / "data.h5"
    pixels = np.random.default_rng(0).random((20, 20, 3), np.float32)
    pixels[5, 5] = value
    with h5py.File(path, "w") as file:
        file["images/Train/S_1"] = pixels
        file["spots/Train/S_1"] = np.array([xy], [("x", "f8"), ("y", "f8")])
    options = ("--backbone", "stain-texture", "--patch", "8")
    assert message in refusal("featurize", path, tmp_path / "store", *options)
    succeeds("inspect", path, "--json", tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["problems"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_no_store_is_not_written_to(refusal, tmp_path, phantom_h5, folder):
    path = precious = tmp_path / "store"
    if folder:
        path.mkdir()
        precious = path / "thesis.txt"
    precious.write_text("precious")
    refusal("featurize", phantom_h5, path, "--backbone", "none")
    assert precious.read_text() == "precious"
    assert not folder or list(path.iterdir()) == [precious]


def test_inspect_shows_slides_and_writes_json(succeeds, tmp_path, phantom_h5):
    assert "S_1" in succeeds("inspect", phantom_h5, "--json", tmp_path / "found.json").output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [slide["slide"] for slide in found["slides"]] == ["S_1", "S_2", "S_3", "S_4"]
    assert [slide["labelled"] for slide in found["slides"]] == [True, True, True, False]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Print the table of `inspect` for one slide on a terminal of this width."""

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


def test_inspect_shows_group_and_scale_only_if_known(shown):
    assert "um/px" not in shown(120)
    assert "group" not in shown(120)
    assert "width x height" in shown(120)
    assert "1950 x 2000" in shown(120)


@pytest.mark.parametrize("columns", [80, 120])
def test_inspect_truncates_nothing(shown, columns):
    text = shown(columns, group="patient A", um_per_px=4.02)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert all(len(line) <= columns for line in text.splitlines())
    for word in ("patient", "height", "float32", "um/px", "4.02", "25.91", "1e-06", "abundance"):
        assert word in text.split()


def test_backbones_lists_them(succeeds):
    shown = succeeds("backbones").output
    for name in ("resnet50", "stain-texture", "convnext_tiny"):
        assert name in shown
