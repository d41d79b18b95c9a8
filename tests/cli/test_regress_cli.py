"""evaluate, ablate, train and predict on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store) -> str:
    """Two labelled slides and one without labels."""
    spots = dict.fromkeys(["S_1", "S_2", "S_3"], 36)
    return make_store(tmp_path_factory.mktemp("cli"), "abcd", spots, unlabelled="S_3")


def test_evaluate_prints_and_writes_five_scores_of_folds_and_baselines(succeeds, store, tmp_path):
    path = tmp_path / "scores.json"
    more = ("--interval", "0.8", "--verbose", "--json", path)
    printed = succeeds("evaluate", store, "--features", "mine", "--model", "ridge", *more).output
    written = json.loads(path.read_text())
    scores = ["spot_spearman", "type_spearman", "type_pearson", "share_rmse", "share_jsd"]
    expected = {fold["name"]: fold for fold in written["folds"]}
    for fold in written["folds"]:
        assert fold["held_out"] == [fold["name"]]
        assert set(fold["baselines"]) == {"mean", "mean-rank", "coords"}
        for baseline in fold["baselines"].values():
            assert list(baseline) == scores
    names = {"mean": "mean profile", "mean-rank": "mean-rank profile", "coords": "coords"}
    expected |= {names[name]: values for name, values in written["baselines"].items()}
    expected["all folds, averaged"] = written["mean"]
    rows = {line.split("  ")[0].strip(): line.split() for line in printed.splitlines()}
    for name, values in expected.items():
        numbers = [float(number) for number in rows[name][-5:]]
        np.testing.assert_allclose(numbers, [values[score] for score in scores], atol=6e-4)
    for score in scores:
        each = [fold[score] for fold in written["folds"]]
        assert written["mean"][score] == pytest.approx(np.mean(each))
    assert 0 <= written["interval"]["coverage"]["mean"] <= 1
    for words in ("80% prediction intervals cover", "by fold.", "processes of one thread"):
        assert words in printed


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_evaluate_writes_held_out_predictions(succeeds, store, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / f"held_out{suffix}"
    more = ("--predictions", path, "--units", "share", "--model", "ridge", "--seeds", "2")
    printed = succeeds("evaluate", store, *more).output
    assert "mine+mine:area1+mine:area10+mine:area90" in printed  # the default features
    assert f"Wrote {path}: 72 held-out spots, units share." in printed
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table) == ["fold", "slide", "spot", "x", "y", "a", "b", "c", "d"]
    assert list(table.fold) == list(table.slide) == ["S_1"] * 36 + ["S_2"] * 36
    np.testing.assert_allclose(table[["a", "b", "c", "d"]].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "what"), [("ridge", "the squared weights"), ("lightgbm", "the trees' gain")]
)
def test_train_names_its_importances_and_that_it_replaces_a_model(
    succeeds, store, tmp_path, model, what
):
    few = ("--set", "n_estimators=5") if model == "lightgbm" else ()
    command = ("train", store, tmp_path / "m", "--model", model, *few)
    first, second = (succeeds(*command).output for _ in range(2))
    assert f"relies on (share of {what}, over all cell types)\n" in first
    assert "Replaced" not in first
    assert f"Replaced the existing model in {tmp_path / 'm'}." in second


def test_the_cross_validation_of_train_is_not_called_evaluating(succeeds, store, tmp_path):
    result = succeeds("train", store, tmp_path / "m", "--model", "ridge", "--intervals")
    assert "predict held-out slides, for intervals: 2/2 folds" in result.stderr
    assert "evaluate" not in result.output


def test_predict_scores_labelled_slides_and_marks_training_slides(succeeds, store, tmp_path):
    model, output = tmp_path / "m", tmp_path / "o.csv"
    succeeds("train", store, model, "--model", "ridge", "--slides", "S_1")
    result = succeeds("predict", store, model, "-o", output, "--slides", "S_1,S_2,S_3")
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("S_")}
    assert set(rows) == {"S_1", "S_2"}
    assert rows["S_1"].endswith("trained on")
    assert len(rows["S_2"].split()) == 6  # the slide and five scores


def test_ablate_prints_differences_by_fold_and_warns_of_few_folds(succeeds, store, tmp_path):
    path = tmp_path / "rows.json"
    specs = ("--features", "mine+coords", "--leave-one-out", "--model", "ridge")
    printed = succeeds("ablate", store, *specs, "--keep", tmp_path / "kept", "--json", path).output
    assert "Only 2 folds" in printed
    rows = json.loads(path.read_text())["rows"]
    for row in rows[1:]:
        each = (
            f"{fold['name']} {fold['delta_spot_spearman']:+.3f}/{fold['delta_type_spearman']:+.3f}"
            for fold in row["folds"]
        )
        assert f"{row['features']}\n     by fold: {', '.join(each)}\n" in printed
    assert [row["features"] for row in rows] == ["mine+coords", "coords", "mine"]
    assert len(list((tmp_path / "kept").iterdir())) == 6
    succeeds("ablate", store, *specs, "--fresh")


def test_train_and_predict_write_a_submission(succeeds, refusal, store, tmp_path):
    model, output = tmp_path / "model", tmp_path / "out.csv"
    few = ("--set", "n_estimators=5", "--set", "learning_rate=0.1", "--intervals", "--jobs", 1)
    features = ("--features", "mine+coords", "--model", "lightgbm")
    assert "mine" in succeeds("train", store, model, *features, *few).output
    printed = succeeds("predict", store, model, "-o", output).output
    assert "IDs 0 to 35: S_3" in printed
    assert "units rank (within the spot, 1 = most abundant" in printed
    lines = output.read_text().splitlines()
    assert lines[0] == "ID,a,b,c,d"
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(36)]
    for name in ("o.png", "o.html", "o.ome.tif"):
        line = refusal("predict", store, model, "-o", tmp_path / name, "--interval", "0.8")
        assert "cannot hold intervals; write a table, or omit --interval" in line
    succeeds("predict", store, model, "-o", output, "--interval", "0.8")
    assert output.read_text().startswith("ID,a,b,c,d,a_lower,a_upper,b_lower")


def test_predict_writes_tables_with_spots_and_one_map_per_slide(succeeds, refusal, store, tmp_path):
    model, output = tmp_path / "model", tmp_path / "out.csv"
    succeeds("train", store, model, "--features", "mine", "--model", "ridge")
    assert "S_3: 36 spots" in succeeds("predict", store, model, "-o", output, "--with-spots").output
    assert output.read_text().startswith("slide,spot,x,y,a,b,c,d")
    both = ("--slides", "S_1,S_3", "--json", tmp_path / "out.json")
    line = refusal("predict", store, model, "-o", tmp_path / "out.geojson", *both)
    assert "out.geojson: .geojson holds one slide, and there are 2" in line
    succeeds("predict", store, model, "-o", tmp_path / "{slide}.geojson", *both)
    slides = json.loads((tmp_path / "out.json").read_text())["slides"]
    warnings = [line for slide in slides for line in slide["warnings"] if "trained on" in line]
    assert [line.split(":")[0] for line in warnings] == ["S_1"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate STORE --features ''", "a term is empty"),
        ("evaluate STORE --features yours", "no embedding matches 'yours'"),
        ("evaluate nowhere.zarr", "nowhere.zarr"),
        ("evaluate STORE --slides S_9", "no slide 'S_9'"),
        ("evaluate STORE --slides S_3", "S_3: has no abundances"),
        ("evaluate STORE --group-by group", "has no group"),
        ("evaluate STORE --model lightgbm --set depth=3", "unknown parameter depth"),
        ("evaluate STORE --set n_estimators", "is not NAME=NUMBER"),
        ("evaluate STORE --json .", "is a folder"),
        ("evaluate STORE --predictions x.h5ad", "give .csv, .parquet"),
        ("evaluate STORE --predictions nowhere/x.csv", "no such folder"),
        ("evaluate STORE --units share", "add --predictions or --interval"),
        ("ablate STORE --features mine", "nothing to compare"),
        ("train STORE nowhere/model", "no such folder"),
        ("predict STORE nomodel -o x.csv", "nomodel: no such model"),
        ("predict STORE nomodel -o folder.csv", "is a folder"),
        ("predict STORE nomodel -o x.csv --format hdf5", "omit --format"),
        ("predict STORE nomodel -o nowhere/x.csv", "no such folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    refusal, store, command, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    words = ["" if word == "''" else word for word in command.split()]
    assert message in refusal(*(store if word == "STORE" else word for word in words))


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_one_cell_type_and_slides_of_few_spots_are_named(succeeds, make_store, tmp_path, command):
    store = make_store(tmp_path, "a", {"S_1": 12, "S_2": 3})
    model = [tmp_path / "model"] if command == "train" else []
    warned = " ".join(succeeds(command, store, *model, "--model", "ridge").stderr.split())
    assert "one cell type, a: its share and rank are 1" in warned
    assert ("slides of fewer than 10 spots: S_2 (3)" in warned) == (command == "evaluate")
