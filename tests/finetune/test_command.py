"""The command `histoboost finetune`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from histoboost.cli import main
from histoboost.featurize.backbones.factory import REGISTRY
from histoboost.finetune.folder import load_tensors
from histoboost.finetune.presets import PRESETS

SMALL = ["--weights", "random", "--epoch-spots", "16", "--batch-size", "8", "--threads", "1"]


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["finetune", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("preset", list(PRESETS))
def test_both_presets_run_end_to_end(
    small_h5: Path, tmp_path: Path, preset: str, tiny_net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbones = PRESETS[preset].backbones
    for name in backbones if len(backbones) > 1 else ():  # one real network will do
        monkeypatch.setitem(REGISTRY, name, REGISTRY[tiny_net])
    out = run(
        *(small_h5, tmp_path / "cnn", "--preset", preset, "--epochs", 1, "--held-out", "S_1"),
        *("--json", tmp_path / "s.json", *SMALL),
    )
    assert "mean-rank" in out.stdout
    assert out.stderr.count("epoch 1/1: loss") == len(backbones)
    members = sorted(path.name for path in (tmp_path / "cnn").glob("member_*"))
    assert members == [f"member_{i}_{name}" for i, name in enumerate(backbones)]
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["model"] == preset
    assert [fold["held_out"] for fold in scores["folds"]] == [["S_1"]]


@pytest.fixture(scope="module")
def options(tiny_net: str) -> list[str]:
    """All that draws random numbers or keeps a state, switched on; two steps an epoch."""
    return [
        *("--preset", "cnn-ensemble", "--backbones", f"{tiny_net},{tiny_net}"),
        *("--plateau-patience", "1", "--epochs", "2", "--checkpoint-minutes", "0", *SMALL),
    ]


@pytest.fixture(scope="module")
def whole(small_h5: Path, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole") / "cnn"
    run(small_h5, folder, *options)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("last", [6, 7, 8])  # inside and between epochs of the second member
def test_killed_and_restarted_equals_uninterrupted(
    small_h5: Path,
    tmp_path: Path,
    tiny_net: str,
    options: list[str],
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    killed = tmp_path / "killed"
    step, steps = torch.optim.Adam.step, 0

    def step_or_die(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step_or_die)
        child = os.fork()
        if child == 0:
            try:
                run(small_h5, killed, *options)
            finally:
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    members = [f"member_{i}_{tiny_net}" for i in (0, 1)]
    assert (killed / members[0] / "model.pt").exists()
    assert not (killed / members[1] / "model.pt").exists()
    again = run(small_h5, killed, *options).stderr
    assert "1/2, epoch" not in again  # the first member is not trained again
    assert ("epoch 1/2" in again) == (last == 6)
    assert "epoch 2/2" in again
    for member in members:
        expected, got = (load_tensors(out / member / "model.pt")["net"] for out in (whole, killed))
        assert all(torch.equal(expected[name], got[name]) for name in expected)
        expected, got = (
            [
                {**row, "seconds": 0}
                for row in json.loads((out / member / "history.json").read_text())
            ]
            for out in (whole, killed)
        )
        assert expected == got
        assert {path.name for path in (killed / member).iterdir()} == {
            "model.pt",
            "backbone.pth",
            "history.json",
        }


def test_a_config_file_changes_the_preset(small_h5: Path, tmp_path: Path, tiny_net: str) -> None:
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
