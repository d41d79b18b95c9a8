"""Runs one benchmark each, in a process of its own, and turns its figures into rows.

A contestant that is not installed, and a benchmark that stops, are rows too: they say so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.table import Row

ROOT = Path(__file__).resolve().parents[1]


def measure(module: str, *options: str, file_option: str = "--json") -> tuple[dict[str, Any], str]:
    """The figures that `benchmarks.MODULE` writes, and what to remark if it stopped.

    What it prints goes to stderr: stdout is the table's.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", *options, file_option, str(file)]
        code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
        figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    stopped = f"`benchmarks.{module}` stopped with exit code {code}, see its message above"
    return figures, stopped if code else ""


def lacking(package: str, requirement: str) -> str:
    """How to install a package that is not here; empty where it is."""
    return "" if find_spec(package) else f"not installed: `pip install {requirement}`"


def featurize(quick: bool) -> list[Row]:
    """Stage 1 against the backbone alone and against the field's usual way, per engine."""
    small = ["--backbone", "resnet18", "--patch", "32,64", "--spots", "8", "--rounds", "1"]
    sizes = small if quick else []
    without = lacking("openvino", "'histoboost[openvino]'")
    rows = on_cpu(["torch"] if without else ["torch", "openvino"], sizes)
    if without:
        rows.append(Row("stage 1", "featurize, openvino, CPU", "pure forward", remarks=without))
    return rows + on_gpu(quick)


def on_gpu(quick: bool) -> list[Row]:
    """Rows of `benchmarks.gpu`, one for every backbone, precision and opponent."""
    import torch

    ends = ("stage 1", "featurize, torch, GPU", "pure forward")
    if not torch.cuda.is_available():
        return [Row(*ends, remarks="no GPU that torch can use on this machine")]
    figures, stopped = measure("gpu", *(["--only", "mobilenet_v2"] if quick else []))
    rows = []
    for case in figures.get("cases", []):
        sides = ", ".join(map(str, case["patch"]))
        ours = f"{case['backbone']}, {case['layers']}, {sides} px, {case['precision']}, GPU"
        error = case["largest_relative_error"]
        remarks = f"{case['peak_gib']} GiB; off the CPU's fp32 by at most {error:.1e}"
        for label, ratio in case["ratios"].items():
            against = label.removeprefix("ours / ").removesuffix(", torch")
            spread = (ratio["min"], ratio["max"])
            rows.append(Row("stage 1", ours, against, ratio["median"], spread, remarks=remarks))
    return rows or [Row(*ends, remarks=stopped)]


def on_cpu(engines: list[str], options: list[str]) -> list[Row]:
    """Rows of one run of `benchmarks.featurize`."""
    figures, stopped = measure("featurize", "--engines", ",".join(engines), *options)
    found, rows = figures.get("ratios", {}), []
    for engine in engines:
        for against in ("pure forward", "usual way"):
            ratio = found.get(f"ours / {against}, {engine}")
            names = ("stage 1", f"featurize, {engine}, CPU", against)
            if ratio is None:
                rows.append(Row(*names, remarks=stopped or "not reported"))
                continue
            rows.append(Row(*names, ratio["median"], (ratio["min"], ratio["max"])))
    return rows


#: Row of `benchmarks.regress`, what it is called here, and its package.
CONTESTANTS = (
    ("LGBMRegressor loop", "MultiOutputRegressor(LGBMRegressor), the naive loop", "lightgbm"),
    ("XGBRegressor loop", "XGBoost", "xgboost"),
    ("CatBoostRegressor loop", "CatBoost", "catboost"),
    ("HistGradientBoosting loop", "HistGradientBoosting", "sklearn"),
)
OURS = ("histoboost stack", "histoboost lightgbm")


def regress(quick: bool) -> list[Row]:
    """Stage 2: CPU seconds of the whole cross-validation, accuracy on the fits all have made.

    MultiOutputRegressor is a loop of one fit per target, which is what the naive loop does. The
    quick run leaves out `--model lightgbm`, whose 35 fits a fold take minutes at any size.
    """
    ours = OURS[:1] if quick else OURS
    absent = {name: lacking(package, package) for name, _, package in CONTESTANTS}
    wanted = [*ours, *(name for name in absent if not absent[name])]
    scale = ["--scale", "0.02"] if quick else []
    found, stopped = measure("regress", "--only", ",".join(wanted), *scale, file_option="--out")
    rows = []
    for model in ours:
        for name, title, _ in CONTESTANTS:
            ends = ("stage 2", model.replace("histoboost", "evaluate --model"), title)
            if absent[name] or model not in found or name not in found:
                rows.append(Row(*ends, remarks=absent[name] or stopped or "not reported"))
                continue
            ratio = found[name]["cpu_seconds"] / found[model]["cpu_seconds"]
            scores = (accuracy(found[model]), accuracy(found[name]))
            scaled = f"scaled from {found[name]['fits_measured']} fits"
            rows.append(Row(*ends, ratio, None, *scores, scaled))
    return rows


def accuracy(figures: dict[str, float]) -> tuple[float, float]:
    """Per-spot and per-type Spearman over the fold and types that every method has predicted."""
    return figures["sampled_spot_spearman"], figures["sampled_type_spearman"]


def store(quick: bool) -> list[Row]:
    """Reading an embedding, digests compared, against `numpy.load` of the same array."""
    figures, stopped = measure("store")
    ends = ("store", "EmbeddingStore.read", "numpy.load")
    if not figures:
        return [Row(*ends, remarks=stopped)]
    below = "below its bound of 0.2" if stopped else ""
    return [Row(*ends, figures["relative_speed"], remarks=below)]


def scaling(quick: bool) -> list[Row]:
    """Two workers against one, and many simulated workers against the ideal."""
    two, sixty_four = "featurize on 2 workers", "64 simulated workers"
    ends = (("scaling", two, "1 worker"), ("scaling", sixty_four, "the ideal schedule"))
    if without := lacking("distributed", "'histoboost[dask]'"):
        return [Row(*names, remarks=without) for names in ends]
    from benchmarks.scaling import on_this_machine, simulate

    real = on_this_machine(1) / on_this_machine(2)
    slides, mean_seconds = (128, 0.5) if quick else (1000, 4.0)
    found = simulate(slides, 64, mean_seconds)
    overhead = f"{slides} units, {found['overhead_ms']:.0f} ms overhead each"
    return [
        Row(*ends[0], real, remarks="ideal: 2"),
        Row(*ends[1], found["efficiency"], remarks=overhead),
    ]


def lazyslide(quick: bool) -> list[Row]:
    """The same tiles of one slide through LazySlide's feature extraction."""
    absent = lacking("lazyslide", "lazyslide")
    ends = ("stage 1", "featurize, resnet18", "LazySlide")
    if absent:
        return [Row(*ends, remarks=absent)]
    engines = ["torch", *(["openvino"] if find_spec("openvino") else [])]
    small = ["--spots", "16", "--rounds", "1"] if quick else []
    figures, stopped = measure("lazyslide", "--engines", ",".join(engines), *small)
    rows = []
    for engine, ratio in figures.get("ratios", {}).items():
        names = ("stage 1", f"featurize, {engine}, CPU", f"LazySlide {figures['lazyslide']}")
        alike = f"same tiles: correlation at least {figures['least_correlation']:.3f}"
        rows.append(Row(*names, ratio["median"], (ratio["min"], ratio["max"]), remarks=alike))
    return rows or [Row(*ends, remarks=stopped)]


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "featurize": featurize,
    "regress": regress,
    "store": store,
    "scaling": scaling,
    "lazyslide": lazyslide,
}
