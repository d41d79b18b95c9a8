# ruff: noqa: E402  (threads are limited before numpy is imported)
"""Stage 2 against common alternatives at the size of the challenge.

    python benchmarks/regress.py [--out FILE.json] [--scale 1.0]

Phantom embeddings with low-rank structure, smooth latents, slide effects and non-linear targets: 6
slides, 8,349 spots, 35 cell types, 3 x 1,280 features. Our models run the whole
leave-one-slide-out cross-validation. The others would take hours, so they are measured on a sample
of fits (one fold, the first `SAMPLED` types) and their seconds scaled to 6 folds x 35 types;
accuracies are compared on this fold and these types.

Everything runs on one core and CPU time is compared, which depends little on other load.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.regress.features import FeatureMatrix, assemble
from histoboost.regress.folds import Fold, make_folds
from histoboost.regress.joint import merge, split
from histoboost.regress.layout import describe
from histoboost.regress.metrics import spot_spearman, type_spearman
from histoboost.regress.scores import run_fold
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides
from histoboost.regress.targets import fit_target
from histoboost.spots import SpotTable

SIZES = (2197, 2270, 690, 1187, 1677, 328)
TYPES, WIDTH, RANK = 35, 1280, 48
SAMPLED = 5
FOLD = 2  # sampled fits hold out the slide of 690 spots

#: Class and parameters: defaults, but one thread and 100 rounds.
COMPETITORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "LGBMRegressor loop": ("lightgbm", "LGBMRegressor", {"n_jobs": 1, "verbosity": -1}),
    "sklearn Ridge loop (penalty fixed)": ("sklearn.linear_model", "Ridge", {"alpha": 1000.0}),
    "XGBRegressor loop": ("xgboost", "XGBRegressor", {"n_jobs": 1}),
    "HistGradientBoosting loop": (
        "sklearn.ensemble",
        "HistGradientBoostingRegressor",
        {"early_stopping": False},
    ),
    "CatBoostRegressor loop": (
        "catboost",
        "CatBoostRegressor",
        {"iterations": 100, "thread_count": 1, "verbose": False, "allow_writing_files": False},
    ),
}

Array = NDArray[Any]


def make_store(path: Path, scale: float, seed: int = 0) -> EmbeddingStore:
    """Write phantom embeddings `net@32`, `net@64`, `net@128` of six labelled slides."""
    rng = np.random.default_rng(seed)
    store = EmbeddingStore(path)
    width = max(int(WIDTH * scale), 64)
    mixing = [rng.normal(size=(RANK, width)) / np.sqrt(RANK) for _ in range(3)]
    first, second = rng.normal(size=(2, RANK, TYPES)) / np.sqrt(RANK)
    level = rng.normal(size=TYPES) * 1.2
    for index, size in enumerate(SIZES):
        n = max(int(size * scale), 60)
        y, x = np.divmod(np.arange(n), int(np.sqrt(n)))
        xy = np.stack([x + 0.5 * (y % 2), y * 0.866], axis=1) * 25.0
        waves = rng.normal(size=(2, RANK)) / 120
        latent = np.sqrt(2) * np.sin(xy @ waves + rng.uniform(0, 2 * np.pi, RANK))
        latent += 0.5 * rng.normal(size=latent.shape)
        mean = level + 1.2 * np.tanh(latent @ first) * (1 + latent @ second)
        abundance = np.exp(mean + 0.8 * rng.normal(size=mean.shape)).astype(np.float32)
        ids = tuple(map(str, range(n)))
        names = tuple(f"C{i + 1}" for i in range(TYPES))
        store.write_spots(SpotTable(f"S_{index + 1}", xy, ids, abundance, names))
        for patch, mix in zip((32, 64, 128), mixing, strict=True):
            gain = rng.uniform(0.8, 1.25, width)  # stain and scanner
            shift = 0.5 * rng.normal(size=width)
            noise = 0.7 * rng.normal(size=(n, width))
            values = (np.maximum(latent @ mix + noise, -0.5) * gain + shift).astype(np.float16)
            name = f"net@{patch}"
            recipe = Recipe({"slide_pixels": f"{index}", "backbone": "phantom", "patch_px": patch})
            store.writer(f"S_{index + 1}", name, recipe, n, width).write_all(values)
    return store


def cpu_seconds() -> float:
    """CPU time of this process and its finished children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in usages)


def ours(matrix: FeatureMatrix, setup: Setup) -> dict[str, Any]:
    """Measure the whole cross-validation; for `lightgbm`, one fold, scaled."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    folds = make_folds(matrix.layout.spots, "slide")
    one = setup.model == "lightgbm"
    chosen = [folds[FOLD]] if one else folds
    results = [run_fold(matrix, fold, setup, jobs=1) for fold in chosen]
    predicted = results[0 if one else FOLD].predictions[matrix.layout.slides[FOLD]]
    if setup.target == "joint":
        predicted = merge(split(predicted))
    share = len(folds) / len(chosen)
    figures: dict[str, Any] = {
        "cpu_seconds": (cpu_seconds() - cpu) * share,
        "wall_seconds": (time.perf_counter() - wall) * share,
    }
    if one:
        figures["fits_measured"] = TYPES
    else:
        for name in ("spot_spearman", "type_spearman"):
            figures[name] = float(np.mean([getattr(result, name) for result in results]))
    return figures | sampled_scores(predicted[:, :SAMPLED], matrix)


def sampled_scores(predicted: Array, matrix: FeatureMatrix) -> dict[str, float]:
    """Scores on the fold and types that every method predicted."""
    true = matrix.layout.abundance(FOLD)[:, :SAMPLED]
    return {
        "sampled_spot_spearman": spot_spearman(predicted, true),
        "sampled_type_spearman": type_spearman(predicted, true),
    }


def theirs(matrix: FeatureMatrix, module: str, kind: str, options: Any) -> dict[str, Any]:
    """Measure a loop over types with one estimator each, on rank targets, scaled."""
    fold = Fold((FOLD,), tuple(i for i in range(len(SIZES)) if i != FOLD))
    X = np.concatenate([matrix.block(i) for i in fold.training])
    true = np.concatenate([matrix.layout.abundance(i) for i in fold.training])
    Y = fit_target("rank", true).forward(true)
    estimator = getattr(import_module(module), kind)
    cpu, wall = cpu_seconds(), time.perf_counter()
    columns = [
        estimator(**options).fit(X, Y[:, index]).predict(matrix.block(FOLD))
        for index in range(SAMPLED)
    ]
    share = len(SIZES) * TYPES / SAMPLED
    return {
        "cpu_seconds": (cpu_seconds() - cpu) * share,
        "wall_seconds": (time.perf_counter() - wall) * share,
        "fits_measured": SAMPLED,
        **sampled_scores(np.stack(columns, axis=1), matrix),
    }


def peak_memory(store: EmbeddingStore, model: str) -> str:
    """Compare the peak of `histoboost evaluate`, default features, with the float32 matrix."""
    columns = describe(store, labelled_slides(store), Setup(model=model).features).blocks[-1].stop
    rows = sum(len(store.spots(slide).xy) for slide in store.slides())
    matrix = rows * columns * 4
    evaluate = ["evaluate", str(store.location), "--model", model, "--held-out", "S_6"]
    peaks = []
    for arguments in (["doctor"], evaluate):
        command = [sys.executable, "-m", "histoboost", *arguments]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        peaks.append(used.ru_maxrss * 1024)
    return (
        f"{model}: matrix {rows:,} x {columns:,} float32 = {matrix / 1e6:,.0f} MB, peak of "
        f"evaluate {peaks[1] / 1e6:,.0f} MB = {peaks[1] / matrix:.2f} times (libraries alone: "
        f"{peaks[0] / 1e6:,.0f} MB)"
    )


def main() -> None:
    """Run everything and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON; resumes if it exists")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of spots and features")
    parser.add_argument("--memory", metavar="MODEL", help="only print the peak memory of evaluate")
    parser.add_argument("--only", help="names of rows, comma-separated")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if args.out and args.out.exists():
        rows = json.loads(args.out.read_text())

    def wanted(name: str) -> bool:
        return name not in rows and (not args.only or name in args.only.split(","))

    def add(name: str, figures: dict[str, Any]) -> None:
        rows[name] = figures
        print(name, {k: round(v, 3) for k, v in figures.items()}, flush=True)
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "phantom.zarr", args.scale)
        if args.memory:
            print(peak_memory(store, args.memory))
            return
        plain = assemble(store, describe(store, labelled_slides(store), "net@*"))
        for model in ("stack", "lightgbm", "kernel", "ridge", "mean-rank"):
            if wanted(f"histoboost {model}"):
                target = "joint" if model == "stack" else "rank"
                add(f"histoboost {model}", ours(plain, Setup("net@*", model, target)))
        for name, estimator in COMPETITORS.items():
            if wanted(name):
                add(name, theirs(plain, *estimator))
        if wanted("histoboost stack, rings too"):
            spec = "net@*+net@*:ring1+net@*:ring2"
            rings = assemble(store, describe(store, labelled_slides(store), spec))
            add("histoboost stack, rings too", ours(rings, Setup(spec, "stack")))
    print(table(rows))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Format as Markdown, with ratios to the naive LightGBM loop."""
    naive = rows.get("LGBMRegressor loop", {}).get("cpu_seconds")
    lines = [
        "| method | CPU seconds | times as fast as the naive loop | per-spot / per-type, all "
        "| the same, sampled fold and types |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        scores = "-"
        if "spot_spearman" in row:
            scores = f"{row['spot_spearman']:.3f} / {row['type_spearman']:.3f}"
        scaled = f" (scaled from {row['fits_measured']} fits)" if "fits_measured" in row else ""
        ratio = f"{naive / row['cpu_seconds']:.1f}" if naive else "-"
        lines.append(
            f"| {name} | {row['cpu_seconds']:,.0f}{scaled} | {ratio} | {scores} "
            f"| {row['sampled_spot_spearman']:.3f} / {row['sampled_type_spearman']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
