"""Cost of stage 2 as spots, slides and targets grow.

    python benchmarks/scale.py [--spots 10000,100000] [--features 1024] [--slides 4]
        [--types 35,2000] [--model stack] [--trees none|TYPES]
    python -m benchmarks.scale --many 1000,100000

For each number of types and spots, makes a store of phantom embeddings on a square lattice and
measures `histoboost evaluate` (each slide held out in turn) in a process of its own: CPU seconds,
wall seconds and peak memory, and the exponent of their growth from one number of spots to the next.
With `--many`, measures listing and planning runs for so many slides instead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.spots import SpotTable

RANK = 24
#: Columns of an embedding; more features are split into several.
WIDTH = 1280


def make_store(
    path: Path, spots: int, features: int, slides: int, types: int, seed: int = 0
) -> None:
    """Write embeddings `net@1`, `net@2`, ... that correlate with the abundances."""
    rng, store = np.random.default_rng(seed), EmbeddingStore(path)
    widths = [min(WIDTH, features - start) for start in range(0, features, WIDTH)]
    mixing = [rng.normal(size=(RANK, width)).astype(np.float32) for width in widths]
    loadings = rng.normal(size=(RANK, types)) / np.sqrt(RANK)
    names = tuple(f"C{i + 1}" for i in range(types))
    for index in range(slides):
        n = spots // slides
        side = int(np.ceil(np.sqrt(n)))
        xy = np.stack(np.divmod(np.arange(n), side)[::-1], axis=1) * 8.0
        waves = rng.normal(size=(2, RANK)) * (12 / (side * 8.0))
        latent = np.sin(xy @ waves + rng.uniform(0, 6, RANK)).astype(np.float32)
        abundance = np.exp(latent @ loadings + 0.5 * rng.normal(size=(n, types)))
        ids = tuple(map(str, range(n)))
        slide = f"S_{index + 1}"
        store.write_spots(SpotTable(slide, xy, ids, abundance.astype(np.float32), names))
        for at, mix in enumerate(mixing):
            recipe = Recipe({"slide_pixels": slide, "backbone": "phantom", "patch_px": at + 1})
            writer = store.writer(slide, f"net@{at + 1}", recipe, n, mix.shape[1])
            for rows in writer.missing:
                noise = rng.standard_normal((len(latent[rows]), mix.shape[1]), np.float32)
                writer.write(rows, (latent[rows] @ mix + 2 * noise).astype(np.float16))
            writer.publish()


def measure(store: Path, options: list[str]) -> dict[str, float]:
    """CPU seconds, wall seconds and peak bytes of `histoboost evaluate`."""
    command = [sys.executable, "-m", "histoboost", "evaluate", str(store), *options]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": time.perf_counter() - start,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def main() -> None:
    """Measure every size and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spots", default="10000,100000", help="numbers, comma-separated")
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--types", default="35", help="numbers, comma-separated")
    parser.add_argument("--model", default="stack")
    parser.add_argument("--trees", help="passed to histoboost evaluate")
    parser.add_argument("--many", help="numbers of slides to list and plan, comma-separated")
    args = parser.parse_args()
    if args.many:
        from benchmarks.many_slides import measure_slides

        measure_slides([int(count) for count in args.many.split(",")])
        return
    options = ["--features", "*", "--model", args.model]
    options += ["--trees", args.trees] if args.trees else []
    rows: list[dict[str, float]] = []
    sizes = product(*(map(int, numbers.split(",")) for numbers in (args.types, args.spots)))
    for types, spots in sizes:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "scale.zarr"
            make_store(store, spots, args.features, args.slides, types)
            rows.append({"types": types, "spots": spots, **measure(store, options)})
        print(rows[-1], flush=True)
    print(f"\n{args.model}, {args.slides} slides, {args.features} features")
    print("\n| types | spots | CPU s | wall s | peak MB | exponent of CPU | of memory |")
    print("|---|---|---|---|---|---|---|")
    for before, row in pairwise([None, *rows]):
        growth = ["-", "-"]
        if before is not None and before["types"] == row["types"]:
            step = np.log(row["spots"] / before["spots"])
            names = ("cpu_seconds", "peak_bytes")
            growth = [f"{np.log(row[name] / before[name]) / step:.2f}" for name in names]
        print(
            f"| {row['types']:,.0f} | {row['spots']:,.0f} | {row['cpu_seconds']:,.0f} "
            f"| {row['wall_seconds']:,.0f} | {row['peak_bytes'] / 1e6:,.0f} "
            f"| {growth[0]} | {growth[1]} |"
        )


if __name__ == "__main__":
    main()
