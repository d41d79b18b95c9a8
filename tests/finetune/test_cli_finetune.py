"""`histoboost finetune` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from histoboost.cli import main
from histoboost.finetune.checkpoint import load_tensors
from histoboost.phantom import write_phantom

#: Small enough for a test; everything else is the recipe's own.
SMALL = ["--weights", "random", "--input-px", "32", "--epoch-spots", "16", "--threads", "1"]


@pytest.fixture(scope="module")
def small_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return write_phantom(folder / "small.h5", slides=3, spots=20)


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["finetune", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("preset", "backbones"), [("cnn-baseline", 1), ("cnn-ensemble", 4)], ids=["one", "four"]
)
def test_both_recipes_run_end_to_end(
    small_h5: Path, tmp_path: Path, preset: str, backbones: int
) -> None:
    out = run(
        *(small_h5, tmp_path / "cnn", "--preset", preset, "--epochs", 1, "--held-out", "S_1"),
        *("--json", tmp_path / "s.json", *SMALL),
    )
    assert "mean-rank" in out.stdout
    assert out.stderr.count("epoch 1/1: loss") == backbones
    members = sorted(path.name for path in (tmp_path / "cnn").glob("member_*"))
    assert len(members) == backbones
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["model"] == preset
    assert [fold["held_out"] for fold in scores["folds"]] == [["S_1"]]


def test_killed_by_the_system_and_started_again_equals_uninterrupted(
    small_h5: Path, tmp_path: Path
) -> None:
    net = "mobilenet_v2"
    options = [
        *(str(small_h5), "--preset", "cnn-ensemble", "--backbones", f"{net},{net}"),
        *("--epochs", "2", "--batch-size", "8", "--checkpoint-minutes", "0", *SMALL),
    ]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # Two steps an epoch: the seventh is in the second epoch of the second member.
    dying = f"""
import os, signal, torch
step, steps = torch.optim.Adam.step, 0
def step_or_die(self, *args, **kwargs):
    global steps
    steps += 1
    if steps == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
torch.optim.Adam.step = step_or_die
from histoboost.cli import main
main({["finetune", options[0], str(killed), *options[1:]]!r})
"""
    # In a process like the first: libraries that other tests load may change how tests round.
    living = f"""
from histoboost.cli import main
main({["finetune", options[0], str(whole), *options[1:]]!r}, standalone_mode=False)
print("---", file=__import__("sys").stderr)
main({["finetune", options[0], str(killed), *options[1:]]!r}, standalone_mode=False)
"""
    first = subprocess.run([sys.executable, "-c", dying], capture_output=True, text=True)
    assert first.returncode == -9, first.stderr
    assert (killed / f"member_0_{net}" / "model.pt").exists()
    assert not (killed / f"member_1_{net}" / "model.pt").exists()
    second = subprocess.run([sys.executable, "-c", living], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    again = second.stderr.split("---")[1]
    assert "epoch 1/2" not in again  # that one is not trained again
    assert "epoch 2/2" in again
    for member in (0, 1):
        place = f"member_{member}_{net}"
        expected = load_tensors(whole / place / "model.pt")["net"]
        got = load_tensors(killed / place / "model.pt")["net"]
        assert all(torch.equal(expected[name], got[name]) for name in expected)
        assert not list((killed / place).glob("*.part"))


def test_a_config_file_fills_in_the_recipe(small_h5: Path, tmp_path: Path, tiny_net: str) -> None:
    (tmp_path / "c.toml").write_text(
        f'[finetune]\npreset = "cnn-ensemble"\nbackbones = "{tiny_net}"\npatch = 24\n'
        'weights = "random"\nepochs = 5\nhidden = "none"\nrotation = 0\nthreads = 1\n'
    )
    out = tmp_path / "cnn"
    run(small_h5, out, "--config", tmp_path / "c.toml", "--epochs", 1)
    settings = json.loads((out / "finetune.json").read_text())["settings"]
    assert settings["backbones"] == [tiny_net]
    assert (settings["patch"], settings["hidden"], settings["rotation"]) == ([24], [], 0)
    assert settings["epochs"] == 1  # the command line beats the file
    assert settings["coords"] == 32  # the preset's
