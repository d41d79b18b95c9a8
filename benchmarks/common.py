"""Helpers shared by the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.slide import Slide

PACKAGES = (
    *("histoboost", "numpy", "zarr", "torch", "torchvision", "openvino", "lightgbm", "xgboost"),
    *("catboost", "scikit-learn", "distributed", "lazyslide"),
)


def processor() -> str:
    """Model name of the CPU, which `platform` lacks on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """Hardware, load, number of torch threads and package versions."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "machine": f"{processor()}, {cores} cores, {gpu}, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions()]),
    }


def versions() -> Iterator[str]:
    """Version of each package compared, or that it is not installed."""
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} not installed"


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Parser that shows a script's docstring as it is written."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def names(text: str) -> list[str]:
    """Parse a comma-separated option."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """Parse a comma-separated option of integers."""
    return [int(number) for number in text.split(",")]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)}


def report(figures: dict[str, Any], path: Path | None) -> None:
    """Print figures as JSON and also write them to `path`, if given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


def read_pixels(slide: Slide) -> NDArray[np.uint8]:
    """Read the whole image of a slide, (H, W, 3)."""
    return slide.image.read_rows(0, slide.image.shape[0])
