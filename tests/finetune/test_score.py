"""End-to-end models are scored like models of embeddings, on the same folds."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.errors import HistoboostWarning
from histoboost.featurize import featurize
from histoboost.finetune.ensemble import Ensemble
from histoboost.regress.crossval import cross_validate
from histoboost.slides.readers import open_dataset

TINY_NET = "tiny-net-of-the-tests"

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("tiny_net")


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, small_h5: Path, tiny_net: str) -> Path:
    """Cross-validated end to end; holds cv/ and cv.json."""
    folder = tmp_path_factory.mktemp("crossed")
    options = f"--backbones {tiny_net} --weights random --patch 24 --epochs 1 --threads 1".split()
    scored = ("--cross-validate", "--json", folder / "cv.json")
    run("finetune", small_h5, folder / "cv", *options, *scored)
    return folder


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stderr


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, small_h5: Path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path_factory.mktemp("store") / "s.zarr")
    featurize(small_h5, store, backbone="stain-texture", patch=[24])
    return store


def test_the_json_has_the_same_fields_folds_and_baselines(
    crossed: Path, store: EmbeddingStore
) -> None:
    got = json.loads((crossed / "cv.json").read_text())
    expected = cross_validate(store, features="stain-texture@24", model="ridge").to_json()
    assert set(got) <= set(expected)
    wanted = {"features", "model", "target", "folds", "mean", "baselines", "seconds"}
    assert wanted <= set(got)
    for mine, theirs in zip(got["folds"], expected["folds"], strict=True):
        assert set(mine) == set(theirs)
        assert (mine["held_out"], mine["n_spots"]) == (theirs["held_out"], theirs["n_spots"])
        assert set(mine["baselines"]) == set(theirs["baselines"])
        for name, scores in theirs["baselines"].items():
            assert mine["baselines"][name] == pytest.approx(scores)
    assert got["baselines"]["mean-rank"] == pytest.approx(expected["baselines"]["mean-rank"])


def test_predict_writes_a_row_for_every_spot_in_order(
    crossed: Path, small_h5: Path, tmp_path: Path
) -> None:
    model = crossed / "cv" / "folds" / "S_1"
    run("predict", small_h5, model, "-o", tmp_path / "s.csv", "--normalize", "softmax")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.reader(file))
    slide = open_dataset(small_h5)["S_4"]
    types = open_dataset(small_h5).cell_types
    assert rows[0] == ["ID", *types]
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(len(slide.xy))]
    values = np.array([row[1:] for row in rows[1:]], dtype=float)
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*hardly vary")
@pytest.mark.parametrize("units", ["rank", "rank-slide", "softmax", "minmax", "abundance", "none"])
def test_outputs_come_in_all_units(crossed: Path, small_h5: Path, units: str) -> None:
    model = Ensemble.load(crossed / "cv" / "folds" / "S_2")
    [prediction] = model.predict(open_dataset(small_h5), ["S_2"], units=units, device=CPU)
    if units == "minmax":
        np.testing.assert_allclose(prediction.values.min(1), 0)
        np.testing.assert_allclose(prediction.values.max(1), 1)
    assert np.isfinite(prediction.values).all()


def test_predicting_a_training_slide_is_warned_of(crossed: Path, small_h5: Path) -> None:
    model = Ensemble.load(crossed / "cv" / "folds" / "S_2")
    with pytest.warns(HistoboostWarning, match=r"S_1: the model was trained on a slide of this"):
        model.predict(open_dataset(small_h5), ["S_1", "S_2"], device=CPU)


def test_intervals_are_refused(crossed: Path, small_h5: Path, tmp_path: Path) -> None:
    model = crossed / "cv" / "folds" / "S_1"
    error = run("predict", small_h5, model, "-o", tmp_path / "s.csv", "--interval", 0.9, code=2)
    assert "is a fine-tuned model; omit --interval" in error


def test_report_refuses_a_fine_tuned_model_and_show_describes_only_what_it_has(
    crossed: Path, tmp_path: Path
) -> None:
    model = crossed / "cv" / "folds" / "S_1"
    EmbeddingStore(tmp_path / "s.zarr")
    page = tmp_path / "r.html"
    error = run("report", tmp_path / "s.zarr", model, "-o", page, code=2)
    assert f"{model}: is a fine-tuned model, which report does not support" in error
    shown = CliRunner().invoke(main, ["show", str(model)]).stdout
    print(shown)
    assert " patch 24" in shown
    assert "finetune with --cross-validate" in shown
    for absent in ("[", "spot pitch", "train --intervals", "histoboost evaluate"):
        assert absent not in shown


def test_evaluate_warns_where_a_backbone_was_tuned_on_the_held_out_slide(
    crossed: Path, small_h5: Path, tmp_path: Path
) -> None:
    member = f"member_0_{TINY_NET}"
    weights = crossed / "cv" / "folds" / "S_1" / member / "backbone.pth"
    store = EmbeddingStore(tmp_path / "s.zarr")
    featurize(small_h5, store, backbone=TINY_NET, patch=[24], weights=str(weights), name="tuned@24")
    with pytest.warns(HistoboostWarning, match="tuned on S_2, S_3, held out here"):
        cross_validate(store, features="tuned@24", model="ridge")
    with warnings.catch_warnings():  # S_1 was held out from the tuning, too
        warnings.simplefilter("error", HistoboostWarning)
        cross_validate(store, features="tuned@24", model="ridge", held_out=["S_1"])


def test_a_folder_that_holds_something_else_is_left_alone(small_h5: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    options = ("--backbones", TINY_NET, "--weights", "random")
    error = run("finetune", small_h5, tmp_path, *options, code=2)
    assert "thesis.tex, which finetune did not write" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "x.json"], "no slide is scored"),
        (["--cross-validate", "--held-out", "S_1"], "give one of them"),
        (["--held-out", "S_4"], "S_4 has no abundances"),
        (["--slides", "S_1,S_4"], "S_4 has no abundances"),
        (["--held-out", "S_1", "--stop-on", "S_1"], "none of these is a training slide"),
        (["--held-out", "S_1,S_2,S_3"], "no labelled slide left"),
        (["--held-out", "S_9"], "no slide 'S_9'"),
        (["--slides", "S_1", "--held-out", "S_2"], "not among --slides"),
        (["--cross-validate", "--slides", "S_1"], "needs two labelled slides"),
        (["--cross-validate", "--group-by", "group"], "give --groups"),
        (["--loss", "soft-spearman"], "add --target rank"),
        (["--device", "gpu"], "give auto, cpu, cuda"),
    ],
)
def test_bad_input_is_one_clear_line(
    small_h5: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    common = ["finetune", small_h5, tmp_path / "x", "--backbones", TINY_NET, "--weights", "random"]
    error = run(*common, *arguments, code=2)
    [line] = [line for line in error.splitlines() if line.startswith("Error:")]
    assert message in line
    assert not (tmp_path / "x").exists()
