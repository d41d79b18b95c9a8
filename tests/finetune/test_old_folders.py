"""Folders written by `finetune` of histoboost 0.1.0 are read, resumed and left unchanged."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from histoboost.errors import HistoboostError
from histoboost.finetune.ensemble import Ensemble
from histoboost.finetune.folder import save_json
from histoboost.finetune.plan import plan_models
from histoboost.finetune.presets import Settings
from histoboost.finetune.run import Trained, train_models
from histoboost.regress.bundle import digest_of
from histoboost.slides.align.apply import aligned
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset, Slide

pytestmark = [
    pytest.mark.usefixtures("tiny_net"),
    pytest.mark.filterwarnings("ignore:.*hardly vary"),
]

CPU = torch.device("cpu")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A finished model and one that was killed in its second member, of commit 6c83f06.

    Both are of `slides` without A; predicted.npy is the finished model's prediction of A.
    """
    with zipfile.ZipFile(Path(__file__).parent / "data" / "finetune-0.1.0.zip") as packed:
        packed.extractall(tmp_path)
    return tmp_path


def slide(name: str, seed: int) -> Slide:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    xy = rng.uniform([10, 10], [70, 50], (9, 2))
    abundance = rng.uniform(0.1, 4, (9, 4)).astype(np.float32)
    ids = tuple(map(str, range(9)))
    return Slide(name, ArrayImage(pixels), xy, ids, abundance, ("a", "b", "c", "d"))


@pytest.fixture
def slides() -> Dataset:
    return Dataset(Path("data"), tuple(slide(name, seed) for seed, name in enumerate("ABC")))


def train_again(slides: Dataset, folder: Path, lines: list[str]) -> Trained:
    table = str(folder / "alignment.csv")
    fields = json.loads((folder / "finetune.json").read_text())
    settings = Settings.from_json(fields["settings"])
    plans = plan_models(aligned(slides, table), folder, settings, held_out=["A"], alignment=table)
    [trained] = train_models(plans, device=CPU, log=lines.append)
    return trained


def predicted(folder: Path, slides: Dataset) -> np.ndarray:
    return Ensemble.load(folder).predict(slides, ["A"], units="none", device=CPU)[0].values


def test_a_finished_model_predicts_what_it_predicted_then_and_is_not_written_again(
    archive: Path, slides: Dataset
) -> None:
    folder = archive / "finished"
    before = {path: path.read_bytes() for path in folder.rglob("*.*t*")}
    expected = np.load(archive / "predicted.npy")
    np.testing.assert_allclose(predicted(folder, slides), expected, rtol=0, atol=1e-5)
    lines: list[str] = []
    train_again(slides, folder, lines)
    assert lines == []
    assert before == {path: path.read_bytes() for path in before}


def test_a_killed_training_is_resumed_to_the_same_model(archive: Path, slides: Dataset) -> None:
    lines: list[str] = []
    found = train_again(slides, archive / "killed", lines).predictions["A"]
    assert len(lines) == 1  # the second epoch of the second member
    np.testing.assert_allclose(found, np.load(archive / "predicted.npy"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("file", ["finetune.json", "member_0_tiny-net-of-the-tests/model.pt"])
def test_a_flipped_bit_never_changes_predictions(archive: Path, slides: Dataset, file: str) -> None:
    folder = archive / "finished"
    identity = json.loads((folder / "finetune.json").read_text())
    save_json({**identity, "digest": digest_of(identity)}, folder / "finetune.json")
    expected, sound = predicted(folder, slides), (folder / file).read_bytes()
    refused, rng = 0, np.random.default_rng(0)
    for at in rng.integers(0, len(sound), 40):
        data = bytearray(sound)
        data[at] ^= 1 << rng.integers(8)
        (folder / file).write_bytes(data)
        try:
            values = predicted(folder, slides)
        except HistoboostError:
            refused += 1
        else:
            np.testing.assert_array_equal(values, expected)
    assert refused > 20
