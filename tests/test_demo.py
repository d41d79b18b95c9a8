"""The demo runs the whole pipeline on synthetic slides, without downloads."""

import csv
import json

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.demo import MODELS
from histoboost.regress.model import CompositionRegressor


@pytest.fixture(scope="module")
def demo(tmp_path_factory, succeeds):
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    return out, succeeds("demo", "--out", out, "--spots", 40).output


def test_the_demo_clearly_beats_the_constant_baselines(demo):
    out, _ = demo
    rows = {row["model"]: row for row in json.loads((out / "scores.json").read_text())["rows"]}
    best_constant = max(rows[name]["spot_spearman"] for name in ("mean", "mean-rank"))
    assert rows["lightgbm"]["spot_spearman"] > best_constant + 0.05
    assert rows["lightgbm"]["type_spearman"] > 0.15


def test_the_demo_prints_its_backbone_aligned_scores_and_output_paths(demo):
    out, output = demo
    assert "\\n" not in output
    assert "stain-texture (statistics of stain, colour and texture, which has no weights)" in output
    text = output[output.index("Spearman, held-out slides") :]
    header, *rows = text.split("Constant profiles")[0].strip().splitlines()
    assert len(rows) == len(MODELS)
    assert {len(row) for row in rows} == {len(header)}
    for path in json.loads((out / "scores.json").read_text())["paths"].values():
        assert path in text.replace("\n", "")
    assert (out / "report.html").stat().st_size > 1e6


def test_outputs_of_the_demo_are_usable(demo):
    out, _ = demo
    store = EmbeddingStore(out / "store.zarr", mode="r")
    spots = len(store.spots("S_5").xy)
    with open(out / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == [str(i) for i in range(spots)]
    [prediction] = CompositionRegressor.load(out / "model").predict(store)
    assert prediction.values.shape == (spots, 14)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--backbone", "resnet"], "resnet18"),
        (["--backbone", "resnet18", "--weights", "absent.pth"], "absent.pth"),
        (["--spots", "3"], "--spots"),
    ],
)
def test_a_demo_that_cannot_run_ends_with_one_clear_line(refusal, tmp_path, options, named):
    assert named in refusal("demo", "--out", tmp_path / "demo", "--spots", "20", *options)


def test_a_demo_never_overwrites_other_content(demo, refusal, tmp_path):
    out, _ = demo
    (tmp_path / "file").write_text("mine")
    (tmp_path / "submission.csv").write_text("mine")
    for place, problem in (
        (out, "contains a demo with other slides; choose another folder with --out"),
        (tmp_path, "contains other files; choose another folder with --out"),
        (tmp_path / "file", "file"),
    ):
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        assert problem in refusal("demo", "--out", place, "--spots", 20)
        assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*")}
