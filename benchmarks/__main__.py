"""Every comparison in one table, each row a ratio measured in one run.

    python -m benchmarks [--quick] [--only PART] [--device cuda] [--json FILE]

The whole takes about two hours on two cores; ``--quick`` takes minutes and shows only that all of
it runs: its ratios mean nothing. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.parts import PARTS, on_gpu
from benchmarks.table import HEADER, Row

PACKAGES = (
    *("histoboost", "numpy", "zarr", "torch", "torchvision", "openvino", "lightgbm", "xgboost"),
    *("catboost", "scikit-learn", "distributed", "lazyslide"),
)


def processor() -> str:
    """The processor's name; Linux keeps it where Python does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "machine": f"{processor()}, {cores} cores, {gpu}, {platform.system()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions()]),
    }


def versions() -> Iterator[str]:
    """Of every package that takes part."""
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} not installed"


def main() -> None:
    """Run the parts, then print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", choices=PARTS, help="run this part alone")
    parser.add_argument("--json", type=Path, help="write machine and rows here too")
    parser.add_argument("--device", choices=["cuda"], help="of featurize, the rows on a GPU alone")
    arguments = parser.parse_args()
    if arguments.device and arguments.only != "featurize":
        parser.error("--device: only featurize runs on a GPU; add --only featurize")
    about = machine()
    rows: list[Row] = []
    for name in [arguments.only] if arguments.only else PARTS:
        for row in (on_gpu if arguments.device else PARTS[name])(arguments.quick):
            print(row.markdown(), file=sys.stderr, flush=True)  # the whole takes hours
            rows.append(row)
    for key, text in about.items():
        print(f"{key}: {text}")
    if arguments.quick:
        print("sizes: --quick, the ratios mean nothing")
    print("", *HEADER, *(row.markdown() for row in rows), sep="\n")
    if arguments.json:
        record = {**about, "quick": arguments.quick, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
