"""`python -m benchmarks` lists every competitor in its table, and benchmarks of accuracy run."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from histoboost import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import parts

    return parts


def test_a_competitor_that_is_not_installed_has_a_row_with_the_pip_command(
    parts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda package: None)
    monkeypatch.setattr(parts, "measure", lambda *arguments, **options: ({}, ""))
    rows = [row.markdown() for part in parts.PARTS.values() for row in part(False)]
    for name, requirement in {
        "openvino": "'histoboost[openvino]'",
        "XGBoost": "xgboost",
        "CatBoost": "catboost",
        "workers": "'histoboost[dask]'",
        "LazySlide": "lazyslide",
    }.items():
        assert any(name in row and f"`pip install {requirement}`" in row for row in rows), name


def test_a_ratio_is_their_time_over_ours_with_both_accuracies(
    parts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures(seconds: float, score: float) -> dict[str, float]:
        scores = {"sampled_spot_spearman": score, "sampled_type_spearman": score / 2}
        return {"cpu_seconds": seconds, "fits_measured": 5, **scores}

    found = {"histoboost stack": figures(2, 0.5), "LGBMRegressor loop": figures(60, 0.4)}
    monkeypatch.setattr(parts, "measure", lambda *arguments, **options: (found, ""))
    (row,) = [row for row in parts.regress(True) if row.ratio is not None]
    assert (row.ratio, row.our_accuracy, row.their_accuracy) == (30, (0.5, 0.25), (0.4, 0.2))
    assert "MultiOutputRegressor(LGBMRegressor)" in row.against


def test_a_failed_benchmark_has_a_row_with_its_exit_code(
    parts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: tuple[dict[str, Any], str] = parts.measure("store", "--no-such-option")
    monkeypatch.setattr(parts, "measure", lambda *arguments, **options: failed)
    (row,) = parts.store(True)
    assert row.ratio is None
    assert "`benchmarks.store` failed with exit code 2" in row.markdown()


def test_one_part_prints_machine_versions_and_its_ratio(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "store", "--json", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (row,) = json.loads(file.read_text())["rows"]
    assert row["ratio"] > 0
    assert f"| store | EmbeddingStore.read | numpy.load | {row['ratio']:.2f} |" in done.stdout
    assert "cores" in done.stdout
    assert "numpy 2" in done.stdout


def test_the_store_of_many_slides_is_intact(parts: ModuleType, tmp_path: Path) -> None:
    from benchmarks.many_slides import make_slides

    store = EmbeddingStore(make_slides(tmp_path, 3), mode="r")
    assert store.slides() == ["S_000000", "S_000001", "S_000002"]
    assert not any(row.lacking for row in store.summary())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    data = write_phantom(folder / "data.h5", slides=3, unlabelled=0, spots=40)
    featurize(data, folder / "store.zarr", backbone="stain-texture", patch=[32])
    return folder


@pytest.mark.filterwarnings("ignore::histoboost.errors.HistoboostWarning")
@pytest.mark.parametrize(
    ("command", "last"),
    [
        ("naive_loop store.zarr --every 13 --held-out S_1", "| lightgbm |"),
        ("map_scores data.h5 store.zarr S_1 --enlarged", "enlarged four times:"),
        ("mounting data.h5 store.zarr --slides S_1", "S_1: corrected to upright"),
        ("pieces store.zarr --held-out S_1 --model ridge", "5 at random"),
    ],
)
def test_benchmarks_of_accuracy_run_on_a_phantom(
    parts, monkeypatch, capsys, folder, command, last
) -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # naive_loop sets them
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", command.split())
    import_module(f"benchmarks.{command.split()[0]}").main()
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)
