"""The demo: the whole main job, on synthetic slides, without a download."""

import csv
import json

import pytest
from click.testing import CliRunner

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.demo import MODELS
from histoboost.regress.model import CompositionRegressor


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    result = CliRunner().invoke(main, ["demo", "--out", str(out), "--spots", "40"])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_demo_beats_the_constant_baselines_clearly(demo):
    out, _ = demo
    rows = {row["model"]: row for row in json.loads((out / "scores.json").read_text())["rows"]}
    best_constant = max(rows[name]["spot_spearman"] for name in ("mean", "mean-rank"))
    assert rows["lightgbm"]["spot_spearman"] > best_constant + 0.05
    assert rows["lightgbm"]["type_spearman"] > 0.15


def test_the_demo_says_which_backbone_and_weights_it_used(demo):
    _, output = demo
    assert "stain-texture (statistics of stain, colour and texture, which has no weights)" in output
    assert "Synthetic slides" in output


def test_the_demo_ends_with_the_scores_and_the_paths_of_what_it_wrote(demo):
    out, output = demo
    table = output[output.index("Spearman, held-out slides") :]
    assert "constant: mean-rank profile" in table
    assert "LightGBM" in table
    for path in json.loads((out / "scores.json").read_text())["paths"].values():
        assert path in table.replace("\n", "")
    assert (out / "report.html").stat().st_size > 1e6


def test_the_numbers_of_the_demo_stand_below_each_other(demo):
    _, output = demo
    table = output[output.index("Spearman, held-out slides") :].split("Constant profiles")[0]
    header, *rows = table.strip().splitlines()
    assert len(rows) == len(MODELS)
    assert {len(row) for row in rows} == {len(header)}


def test_what_the_demo_wrote_can_be_used_again(demo):
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
def test_a_demo_that_cannot_run_ends_with_one_clear_line(tmp_path, options, named):
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--spots", "20", *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert named in result.output.splitlines()[-1]


def test_a_demo_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "file" in result.output


def test_a_demo_of_other_slides_is_left_as_it_is(demo):
    out, _ = demo
    before = (out / "slides.h5").read_bytes()
    result = CliRunner().invoke(main, ["demo", "--out", str(out), "--spots", "60"])
    assert result.exit_code == 2
    assert "contains a demo with other slides; choose another folder with --out" in result.output
    assert (out / "slides.h5").read_bytes() == before
    assert not (out / "slides.h5.part").exists()


def test_a_demo_does_not_write_into_a_folder_of_other_files(tmp_path):
    (tmp_path / "slides.h5").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "submission.csv").write_text("mine")
    for folder, what in (
        (tmp_path, "a demo with other slides"),
        (tmp_path / "other", "other files"),
    ):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        result = CliRunner().invoke(main, ["demo", "--out", str(folder), "--spots", "20"])
        assert result.exit_code == 2
        assert f"contains {what}; choose another folder with --out" in result.output
        assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
