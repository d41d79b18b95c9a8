"""Stage 1 on several workers: real ones on this machine, and many simulated ones that sleep.

    python -m benchmarks.scaling

The simulation runs the scheduler and the code of `featurize --scheduler` with units that sleep in
proportion to the spots of a slide. The ideal time is the total duration divided by the number of
workers, or the longest unit if that is more.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import make_parser
from histoboost.cluster import run_units

#: Range of spots per slide, as on Visium.
SPOTS = (300, 5000)


@contextmanager
def local_client(workers: int, **options: Any) -> Iterator[Any]:
    """Client of a local cluster of single-threaded workers."""
    from distributed import Client, LocalCluster

    options |= {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers)
        yield client


def sleep_for(seconds: float) -> float:
    """Run one simulated unit."""
    time.sleep(seconds)
    return seconds


def simulate(slides: int, workers: int, mean_seconds: float, seed: int = 0) -> dict[str, float]:
    """Run `slides` sleeping units on `workers` simulated workers.

    Returns
    -------
    dict
        ``efficiency`` (ideal over measured), ``seconds``, ``ideal`` and ``overhead_ms`` (worker
        time per unit beyond its sleep).
    """
    rng = np.random.default_rng(seed)
    spots = np.sort(rng.uniform(*SPOTS, slides))[::-1]
    seconds = spots / spots.mean() * mean_seconds
    # Sleeping units need no core, so all workers share this process, without a memory limit each.
    with local_client(workers, processes=False, memory_limit=None) as client:
        start = time.perf_counter()
        done = run_units(
            client,
            sleep_for,
            [(float(each),) for each in seconds],
            names=[f"slide {i}" for i in range(slides)],
            description="simulated",
            unit="slides",
        )
        assert sum(1 for _ in done) == slides
        took = time.perf_counter() - start
    ideal = max(float(seconds.sum()) / workers, float(seconds.max()))
    overhead = (took * workers - float(seconds.sum())) / slides
    return {
        "efficiency": ideal / took,
        "seconds": took,
        "ideal": ideal,
        "overhead_ms": 1000 * overhead,
    }


def on_this_machine(workers: int) -> float:
    """Seconds of `featurize` with `workers` local worker processes."""
    from histoboost.featurize import featurize
    from histoboost.phantom import write_phantom

    options = {"backbone": "resnet18", "weights": "random", "patch": ["32"]}
    with tempfile.TemporaryDirectory() as folder, local_client(workers) as client:
        slides = write_phantom(Path(folder) / "slides.h5", slides=8, unlabelled=0, spots=60)
        # The first run imports torch and loads the backbone on every worker.
        featurize(slides, Path(folder) / "warm.zarr", client=client, **options)
        start = time.perf_counter()
        featurize(slides, Path(folder) / "store.zarr", client=client, **options)
        return time.perf_counter() - start


def main() -> None:
    """Print the ratio of real workers and the efficiency of simulated ones."""
    parser = make_parser(__doc__)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--mean-seconds", type=float, default=4.0)
    args = parser.parse_args()
    one, two = on_this_machine(1), on_this_machine(2)
    print(f"real workers: 2 take {two / one:.2f} of the time of 1 (ideal 0.50)")
    figures = simulate(args.slides, args.workers, args.mean_seconds)
    print(
        f"simulated: {args.slides} slides on {args.workers} workers: efficiency "
        f"{figures['efficiency']:.3f} of ideal ({figures['seconds']:.1f} s against "
        f"{figures['ideal']:.1f} s), {figures['overhead_ms']:.0f} ms overhead per unit"
    )


if __name__ == "__main__":
    main()
