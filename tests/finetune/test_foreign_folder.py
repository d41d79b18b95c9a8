"""A fine-tuned model from elsewhere neither runs code nor fetches what it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from histoboost.cli import main
from histoboost.errors import HistoboostError
from histoboost.finetune.ensemble import Ensemble
from histoboost.finetune.run import Trained
from histoboost.regress.bundle import digest_of

CODE = """
from pathlib import Path
from torch import nn
from histoboost.featurize.backbones.base import Architecture

Path(__file__).with_name("ran").touch()


def net():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Architecture(module, "head", "pool", input_px=32, pretrained=module.state_dict)
"""


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_h5: Path, finished: Trained
) -> Path:
    """A working directory with slides, a model that histoboost's own network made, and code."""
    shutil.copy(small_h5, tmp_path / "slides.h5")
    shutil.copytree(finished.plan.folder, tmp_path / "cnn")
    (tmp_path / "own_code_of_the_tests.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    """Change fields of the model, and its digest with them."""
    path = folder / "cnn" / "finetune.json"
    fields = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**fields, "digest": digest_of(fields)}))


def predict(model: str, *more: str) -> Result:
    return CliRunner().invoke(
        main, ["predict", "slides.h5", model, "-o", "o.csv", "--slides", "S_1", *more]
    )


OWN = "own_code_of_the_tests:net"


@pytest.mark.parametrize(
    "name",
    [OWN, "os:getcwd", "hf-hub:some/body", "timm:hf-hub:some/body", "timm:local-dir:x", "timm:a/b"],
)
def test_a_network_that_a_folder_names_is_neither_imported_nor_fetched(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(name: str) -> None:
        raise AssertionError(f"{name} was built")

    monkeypatch.setattr("histoboost.finetune.network.load_backbone", reached)
    monkeypatch.setattr("histoboost.finetune.network.architecture", reached)
    settings = json.loads((folder / "cnn" / "finetune.json").read_text())["settings"]
    edit(folder, settings={**settings, "backbones": [name]})
    result = predict("cnn")
    assert result.exit_code == 2, result.output
    assert f"--backbones {name}" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "ran").exists()


def test_your_own_network_must_be_named_again_to_predict(folder: Path) -> None:
    how = ["--backbones", OWN, "--weights", "random", "--epochs", "1", "--threads", "1"]
    done = CliRunner().invoke(main, ["finetune", "slides.h5", "own", *how])
    assert done.exit_code == 0, done.output
    assert predict("own").exit_code == 2
    assert predict("own", "--backbones", OWN).exit_code == 0


def test_a_folder_names_no_file_outside_of_it(folder: Path) -> None:
    edit(folder, alignment=str(folder / "elsewhere.csv"))
    with pytest.raises(HistoboostError, match="alignment"):
        Ensemble.load(folder / "cnn")


def test_a_model_of_embeddings_takes_no_backbones(folder: Path) -> None:
    (folder / "cnn" / "finetune.json").unlink()
    result = predict("cnn", "--backbones", OWN)
    assert result.exit_code == 2
    assert "omit --backbones" in result.stderr
    assert not (folder / "ran").exists()
