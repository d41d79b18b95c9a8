"""Parts of `python -m benchmarks`: run a benchmark in its own process and turn figures into rows.

A missing competitor or a failed benchmark also gets a row, with the reason in its remarks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

HEADER = (
    "| part | ours | against | times as fast | our accuracy | theirs | remarks |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Row:
    """One comparison; if it has no `ratio`, `remarks` says why."""

    part: str
    ours: str
    against: str
    #: Their time divided by ours: above 1, ours is faster.
    ratio: float | None = None
    #: Lowest and highest ratio over rounds.
    spread: tuple[float, float] | None = None
    #: Per-spot and per-type Spearman.
    our_accuracy: tuple[float, float] | None = None
    their_accuracy: tuple[float, float] | None = None
    remarks: str = ""

    def markdown(self) -> str:
        """Format as a row of the table."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        if self.spread:
            ratio += f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})"
        scores = [
            "-" if score is None else f"{score[0]:.3f} / {score[1]:.3f}"
            for score in (self.our_accuracy, self.their_accuracy)
        ]
        cells = [self.part, self.ours, self.against, ratio, *scores, self.remarks]
        return f"| {' | '.join(cells)} |"


def spread_row(ours: str, against: str, spread: dict[str, float], remarks: str = "") -> Row:
    """Row of stage 1 with minimum, median and maximum ratio."""
    ends = (spread["min"], spread["max"])
    return Row("stage 1", ours, against, spread["median"], ends, remarks=remarks)


def measure(module: str, *options: str, file_option: str = "--json") -> tuple[dict[str, Any], str]:
    """Run `benchmarks.MODULE`; return its figures and, if it failed, a remark.

    Its output goes to stderr, because stdout is for the table.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", *options, file_option, str(file)]
        code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
        figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    failed = f"`benchmarks.{module}` failed with exit code {code}, see its message above"
    return figures, failed if code else ""


def missing(package: str, requirement: str) -> str:
    """Remark on how to install a package; empty if it is installed."""
    return "" if find_spec(package) else f"not installed: `pip install {requirement}`"


def featurize(quick: bool) -> list[Row]:
    """Stage 1 against its own forward pass and the usual way, per engine."""
    small = ["--backbone", "resnet18", "--patch", "32,64", "--spots", "8", "--rounds", "1"]
    no_openvino = missing("openvino", "'histoboost[openvino]'")
    engines = ["torch"] if no_openvino else ["torch", "openvino"]
    figures, failed = measure("featurize", "--engines", ",".join(engines), *small * quick)
    ratios, rows = figures.get("ratios", {}), []
    for engine in engines:
        for against in ("pure forward", "usual way"):
            ours, ratio = f"featurize, {engine}, CPU", ratios.get(f"ours / {against}, {engine}")
            if ratio:
                rows.append(spread_row(ours, against, ratio))
            else:
                rows.append(Row("stage 1", ours, against, remarks=failed or "not reported"))
    if no_openvino:
        rows.append(Row("stage 1", "featurize, openvino, CPU", "pure forward", remarks=no_openvino))
    return rows + on_gpu(quick)


def on_gpu(quick: bool) -> list[Row]:
    """Stage 1 on a GPU, per backbone, precision and competitor."""
    import torch

    cells = ("stage 1", "featurize, torch, GPU", "pure forward")
    if not torch.cuda.is_available():
        return [Row(*cells, remarks="torch finds no GPU on this machine")]
    figures, failed = measure("gpu", *["--only", "mobilenet_v2"] * quick)
    rows = []
    for case in figures.get("cases", []):
        sides = ", ".join(map(str, case["patch"]))
        ours = f"{case['backbone']}, {case['layers']}, {sides} px, {case['precision']}, GPU"
        error = case["largest_relative_error"]
        remarks = f"{case['peak_gib']} GiB; differs from fp32 on the CPU by at most {error:.1e}"
        for label, ratio in case["ratios"].items():
            against = label.removeprefix("ours / ").removesuffix(", torch")
            rows.append(spread_row(ours, against, ratio, remarks))
    return rows or [Row(*cells, remarks=failed)]


#: Row in `benchmarks.regress`, name in the table, package.
COMPETITORS = (
    ("LGBMRegressor loop", "MultiOutputRegressor(LGBMRegressor), the naive loop", "lightgbm"),
    ("XGBRegressor loop", "XGBoost", "xgboost"),
    ("CatBoostRegressor loop", "CatBoost", "catboost"),
    ("HistGradientBoosting loop", "HistGradientBoosting", "sklearn"),
)
OURS = ("histoboost stack", "histoboost lightgbm")


def regress(quick: bool) -> list[Row]:
    """Stage 2: CPU time of the whole cross-validation, accuracy on the fits all methods made.

    MultiOutputRegressor fits one model per target in a loop, as the naive loop does. The quick run
    omits `--model lightgbm`, whose 35 fits per fold take minutes at any size.
    """
    ours = OURS[:1] if quick else OURS
    absent = {name: missing(package, package) for name, _, package in COMPETITORS}
    wanted = [*ours, *(name for name in absent if not absent[name])]
    scale = ["--scale", "0.02"] if quick else []
    figures, failed = measure("regress", "--only", ",".join(wanted), *scale, file_option="--out")
    rows = []
    for model in ours:
        for name, title, _ in COMPETITORS:
            cells = ("stage 2", model.replace("histoboost", "evaluate --model"), title)
            if absent[name] or model not in figures or name not in figures:
                rows.append(Row(*cells, remarks=absent[name] or failed or "not reported"))
                continue
            ratio = figures[name]["cpu_seconds"] / figures[model]["cpu_seconds"]
            scores = (accuracy(figures[model]), accuracy(figures[name]))
            scaled = f"scaled from {figures[name]['fits_measured']} fits"
            rows.append(Row(*cells, ratio, None, *scores, scaled))
    return rows


def accuracy(figures: dict[str, float]) -> tuple[float, float]:
    """Per-spot and per-type Spearman on the fold and types that every method predicted."""
    return figures["sampled_spot_spearman"], figures["sampled_type_spearman"]


def store(quick: bool) -> list[Row]:
    """Read an embedding and check its digests, against `numpy.load` of the same array."""
    figures, failed = measure("store")
    cells = ("store", "EmbeddingStore.read", "numpy.load")
    if not figures:
        return [Row(*cells, remarks=failed)]
    return [Row(*cells, figures["relative_speed"], remarks="below its bound of 0.2" * bool(failed))]


def scaling(quick: bool) -> list[Row]:
    """Two workers against one, and many simulated workers against the ideal."""
    two = ("scaling", "featurize on 2 workers", "1 worker")
    many = ("scaling", "64 simulated workers", "the ideal schedule")
    if remarks := missing("distributed", "'histoboost[dask]'"):
        return [Row(*cells, remarks=remarks) for cells in (two, many)]
    from benchmarks.scaling import on_this_machine, simulate

    real = on_this_machine(1) / on_this_machine(2)
    slides, mean_seconds = (128, 0.5) if quick else (1000, 4.0)
    figures = simulate(slides, 64, mean_seconds)
    overhead = f"{slides} units, {figures['overhead_ms']:.0f} ms overhead each"
    return [
        Row(*two, real, remarks="ideal: 2"),
        Row(*many, figures["efficiency"], remarks=overhead),
    ]


def lazyslide(quick: bool) -> list[Row]:
    """Embed the same tiles of one slide, against LazySlide."""
    cells = ("stage 1", "featurize, resnet18", "LazySlide")
    if remarks := missing("lazyslide", "lazyslide"):
        return [Row(*cells, remarks=remarks)]
    engines = "torch,openvino" if find_spec("openvino") else "torch"
    small = ["--spots", "16", "--rounds", "1"]
    figures, failed = measure("lazyslide", "--engines", engines, *small * quick)
    rows = []
    for engine, ratio in figures.get("ratios", {}).items():
        remarks = f"same tiles: correlation at least {figures['least_correlation']:.3f}"
        against = f"LazySlide {figures['lazyslide']}"
        rows.append(spread_row(f"featurize, {engine}, CPU", against, ratio, remarks))
    return rows or [Row(*cells, remarks=failed)]


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "featurize": featurize,
    "regress": regress,
    "store": store,
    "scaling": scaling,
    "lazyslide": lazyslide,
}
