"""evaluate, ablate, train and predict on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.spots import SpotTable


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two labelled slides and one without labels, an embedding made elsewhere."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    made = EmbeddingStore(folder / "s.zarr")
    (folder / "arrays").mkdir()
    xy = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2) * 20
    for slide in ("S_1", "S_2", "S_3"):
        latent = rng.normal(size=(36, 3))
        abundance = np.exp(latent @ rng.normal(size=(3, 4)) + np.arange(4)).astype(np.float32)
        labels = (abundance, ("a", "b", "c", "d")) if slide != "S_3" else (None, ())
        made.write_spots(SpotTable(slide, xy, tuple(map(str, range(36))), *labels))
        np.save(folder / "arrays" / f"{slide}.npy", latent.astype(np.float32))
    made.import_arrays("mine", folder / "arrays")
    return str(folder / "s.zarr")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_evaluate_prints_and_writes_five_scores_of_folds_and_baselines(
    store: str, tmp_path: Path
) -> None:
    path, features = tmp_path / "scores.json", ("--features", "mine", "--model", "ridge")
    result = run("evaluate", store, *features, "--json", str(path))
    assert result.exit_code == 0, result.output
    written = json.loads(path.read_text())
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line.split()}
    scores = ["spot_spearman", "type_spearman", "type_pearson", "share_rmse", "share_jsd"]
    expected = {fold["name"]: fold for fold in written["folds"]}
    for fold in written["folds"]:
        assert set(fold["baselines"]) == {"mean", "mean-rank", "coords"}
        for baseline in fold["baselines"].values():
            assert list(baseline) == scores
    baselines = written["baselines"]
    for name in ("mean-rank", "coords"):
        expected[name] = baselines[name]
    for name, values in expected.items():
        printed = [float(number) for number in rows[name][-5:]]
        np.testing.assert_allclose(printed, [values[score] for score in scores], atol=6e-4)
    for score in scores:
        each = [fold[score] for fold in written["folds"]]
        assert written["mean"][score] == pytest.approx(np.mean(each))


def test_evaluate_prints_the_baselines_and_writes_json(store: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    common = ("--model", "ridge", "--interval", "0.8", "--verbose", "--json", str(path))
    result = run("evaluate", store, "--features", "mine", *common)
    assert result.exit_code == 0, result.output
    for word in (
        "per-spot",
        "mean-rank",
        "S_2",
        "Prediction intervals of 80%",
        "by fold.",
        "processes of one thread",
        "seconds",
    ):
        assert word in result.output
    written = json.loads(path.read_text())
    assert [fold["held_out"] for fold in written["folds"]] == [["S_1"], ["S_2"]]
    assert 0 <= written["interval"]["coverage"]["mean"] <= 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_evaluate_writes_held_out_predictions(store: str, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install 'histoboost[parquet]'")
    path = tmp_path / f"held_out{suffix}"
    more = ("--predictions", str(path), "--units", "share", "--model", "ridge", "--seeds", "2")
    result = run("evaluate", store, *more)
    assert result.exit_code == 0, result.output
    assert f"Wrote {path}: 72 held-out spots, share." in result.output
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table) == ["fold", "slide", "spot", "x", "y", "a", "b", "c", "d"]
    assert list(table.fold) == list(table.slide) == ["S_1"] * 36 + ["S_2"] * 36
    np.testing.assert_allclose(table[["a", "b", "c", "d"]].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "what"), [("ridge", "the squared weights"), ("lightgbm", "the trees' gain")]
)
def test_train_says_what_its_percentages_are_shares_of(
    store: str, tmp_path: Path, model: str, what: str
) -> None:
    few = ("--set", "n_estimators=5") if model == "lightgbm" else ()
    result = run("train", store, str(tmp_path / "m"), "--model", model, *few)
    assert result.exit_code == 0, result.output
    assert f"relies on (share of {what}, over all cell types)\n" in result.output


def test_train_says_that_it_replaced_a_model(store: str, tmp_path: Path) -> None:
    command = ["train", store, str(tmp_path / "model"), "--model", "mean"]
    first, second = (CliRunner().invoke(main, command).output for _ in range(2))
    assert "Replaced" not in first
    assert f"Replaced the model that was in {tmp_path / 'model'}." in second


def test_what_train_does_for_intervals_is_not_called_evaluating(store: str, tmp_path: Path) -> None:
    result = run("train", store, str(tmp_path / "m"), "--model", "ridge", "--intervals")
    assert result.exit_code == 0, result.output
    assert "predict held-out slides, for intervals: 2/2 folds" in result.stderr
    assert "evaluate" not in result.output


def test_predict_scores_labelled_slides_and_says_which_were_trained_on(
    store: str, tmp_path: Path
) -> None:
    model, output = str(tmp_path / "m"), str(tmp_path / "o.csv")
    assert run("train", store, model, "--model", "ridge", "--slides", "S_1").exit_code == 0
    result = run("predict", store, model, "-o", output, "--slides", "S_1,S_2,S_3")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("S_")}
    assert set(rows) == {"S_1", "S_2"}
    assert rows["S_1"].endswith("trained on")
    assert len(rows["S_2"].split()) == 6  # the slide and five scores


def test_defaults_are_printed(store: str) -> None:
    result = run("evaluate", store, "--model", "ridge")
    assert result.exit_code == 0, result.output
    assert "mine+mine:area1+mine:area10+mine:area90" in result.output


def test_ablate_says_that_few_folds_say_little(store: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    common = ("--model", "ridge", "--keep", str(tmp_path / "kept"), "--json", str(path))
    specs = ("--features", "mine+coords", "--leave-one-out")
    result = run("ablate", store, *specs, *common)
    assert result.exit_code == 0, result.output
    assert "Only 2 folds" in result.output
    rows = json.loads(path.read_text())["rows"]
    for row in rows[1:]:
        each = (
            f"{fold['name']} {fold['delta_spot_spearman']:+.3f}/{fold['delta_type_spearman']:+.3f}"
            for fold in row["folds"]
        )
        assert f"{row['features']}\n     by fold: {', '.join(each)}\n" in result.output
    assert [row["features"] for row in rows] == ["mine+coords", "coords", "mine"]
    assert len(list((tmp_path / "kept").iterdir())) == 6
    assert run("ablate", store, *specs, "--model", "ridge", "--fresh").exit_code == 0


def test_train_and_predict_write_a_submission(store: str, tmp_path: Path) -> None:
    model, output = str(tmp_path / "model"), tmp_path / "out.csv"
    few = ("--set", "n_estimators=5", "--set", "learning_rate=0.1")
    trained = run(
        "train", store, model, "--features", "mine+coords", "--model", "lightgbm", *few,
        "--intervals", "--jobs", "1",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "mine" in trained.output
    result = run("predict", store, model, "-o", str(output))
    assert result.exit_code == 0, result.output
    assert "IDs 0 to 35: S_3" in result.output
    assert "rank within the spot in (0, 1], 1 = highest" in result.output
    lines = output.read_text().splitlines()
    assert lines[0] == "ID,a,b,c,d"
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(36)]
    for name in ("o.png", "o.html", "o.ome.tif"):
        unseen = run("predict", store, model, "-o", str(tmp_path / name), "--interval", "0.8")
        assert unseen.exit_code == 2
        assert "shows no intervals; write a table, or omit --interval" in unseen.stderr
    bounds = run("predict", store, model, "-o", str(output), "--interval", "0.8")
    assert bounds.exit_code == 0, bounds.output
    assert output.read_text().startswith("ID,a,b,c,d,a_lower,a_upper,b_lower")


def test_predict_writes_spots_and_maps_where_asked(store: str, tmp_path: Path) -> None:
    model, output = str(tmp_path / "model"), tmp_path / "out.csv"
    assert run("train", store, model, "--features", "mine", "--model", "ridge").exit_code == 0
    result = run("predict", store, model, "-o", str(output), "--with-spots")
    assert result.exit_code == 0, result.output
    assert output.read_text().startswith("slide,spot,x,y,a,b,c,d")
    assert "S_3: 36 spots" in result.output
    both = ("--slides", "S_1,S_3", "--json", str(tmp_path / "out.json"))
    refused = run("predict", store, model, "-o", str(tmp_path / "out.geojson"), *both)
    assert refused.exit_code == 2
    assert "out.geojson: .geojson holds one slide, and there are 2" in refused.stderr
    written = run("predict", store, model, "-o", str(tmp_path / "{slide}.geojson"), *both)
    assert written.exit_code == 0, written.output
    said = json.loads((tmp_path / "out.json").read_text())["slides"]
    trained = [line for each in said for line in each["warnings"] if "trained on" in line]
    assert [line.split(":")[0] for line in trained] == ["S_1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "STORE", "--features", ""), "a term is empty"),
        (("evaluate", "STORE", "--features", "yours"), "no embedding matches 'yours'"),
        (("evaluate", "nowhere.zarr"), "nowhere.zarr"),
        (("evaluate", "STORE", "--slides", "S_9"), "no slide 'S_9'"),
        (("evaluate", "STORE", "--slides", "S_3"), "S_3: has no abundances"),
        (("evaluate", "STORE", "--group-by", "group"), "has no group"),
        (("evaluate", "STORE", "--model", "lightgbm", "--set", "depth=3"), "'depth': unknown"),
        (("evaluate", "STORE", "--set", "n_estimators"), "is not NAME=NUMBER"),
        (("evaluate", "STORE", "--json", "."), "is a directory"),
        (("evaluate", "STORE", "--predictions", "x.h5ad"), "give .csv, .parquet"),
        (("evaluate", "STORE", "--predictions", "nowhere/x.csv"), "no such directory"),
        (("ablate", "STORE", "--features", "mine"), "nothing to compare"),
        (("train", "STORE", "nowhere/model"), "no such directory"),
        (("predict", "STORE", "nomodel", "-o", "x.csv"), "nomodel: no such model"),
        (("predict", "STORE", "nomodel", "-o", "folder.csv"), "is a directory"),
        (("predict", "STORE", "nomodel", "-o", "x.csv", "--format", "hdf5"), "omit --format"),
        (("predict", "STORE", "nomodel", "-o", "nowhere/x.csv"), "no such directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    store: str, arguments: tuple[str, ...], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    result = run(*(store if word == "STORE" else word for word in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_failing_json_path_is_named_before_the_work(store: str, tmp_path: Path) -> None:
    result = run("evaluate", store, "--model", "mean", "--json", str(tmp_path / "no" / "x.json"))
    assert result.exit_code == 2
    assert "x.json" in result.output


def test_units_that_would_be_ignored_are_refused(store: str) -> None:
    result = run("evaluate", store, "--model", "mean", "--units", "share")
    assert result.exit_code == 2
    assert "add --predictions or --interval" in result.output


def test_the_constant_profile_is_not_taken_for_the_mean_of_the_folds(store: str) -> None:
    result = run("evaluate", store, "--features", "mine", "--model", "ridge")
    printed = [line.split("  ")[0].strip(" │|") for line in result.output.splitlines()]
    assert {"all folds, averaged", "mean profile", "mean-rank profile"} <= set(printed)


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_one_cell_type_and_slides_of_few_spots_are_named(tmp_path: Path, command: str) -> None:
    made = EmbeddingStore(tmp_path / "s.zarr")
    (tmp_path / "arrays").mkdir()
    for slide, spots in (("S_1", 12), ("S_2", 3)):
        xy, rng = np.arange(2.0 * spots).reshape(-1, 2), np.random.default_rng(0)
        ids, labels = tuple(map(str, range(spots))), rng.random((spots, 1)).astype(np.float32)
        made.write_spots(SpotTable(slide, xy, ids, labels, ("tumour",)))
        np.save(tmp_path / "arrays" / f"{slide}.npy", rng.random((spots, 2)))
    made.import_arrays("mine", tmp_path / "arrays")
    model = [str(tmp_path / "model")] if command == "train" else []
    result = run(command, str(tmp_path / "s.zarr"), *model, "--model", "ridge")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "one cell type, tumour: its share is 1" in said
    assert ("slides of fewer than 10 spots: S_2 (3)" in said) == (command == "evaluate")
