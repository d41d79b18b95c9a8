"""Stage 1 on several workers: real ones on this machine, and a cluster of many that sleep.

    python -m benchmarks.scaling

The simulation runs the scheduler and the code path of `featurize --scheduler` with units that sleep
for the time that a unit of that size took here, scaled down so that the whole takes a minute. The
ideal is the total of all durations divided by the workers, or the longest unit if that is more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from histoboost.cluster import run_units

#: Spots per slide, drawn from what Visium slides have.
SPOTS = (300, 5000)


def sleep_for(seconds: float) -> float:
    """A unit of the simulated cluster."""
    time.sleep(seconds)
    return seconds


def simulate(slides: int, workers: int, mean_seconds: float, seed: int = 0) -> dict[str, float]:
    """Run `slides` sleeping units on `workers` simulated workers.

    Returns
    -------
    dict
        ``efficiency`` (ideal over measured), ``seconds``, ``ideal`` and ``overhead_ms`` (scheduler
        time per unit: what each unit took beyond its sleep, averaged over workers).
    """
    from distributed import Client, LocalCluster

    rng = np.random.default_rng(seed)
    spots = np.sort(rng.uniform(*SPOTS, slides))[::-1]
    seconds = spots / spots.mean() * mean_seconds
    # Workers are threads' homes here: a sleeping unit needs no core, only the scheduler does.
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            memory_limit=None,  # all of them share this one process
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
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
    """Seconds that `featurize` takes on so many worker processes of this machine."""
    from distributed import Client, LocalCluster

    from histoboost.featurize import featurize
    from histoboost.phantom import write_phantom

    with tempfile.TemporaryDirectory() as folder:
        slides = write_phantom(Path(folder) / "slides.h5", slides=8, unlabelled=0, spots=60)
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            client.wait_for_workers(workers)
            choices = {"backbone": "resnet18", "weights": "random", "patch": ["32"]}
            # The first run imports torch and loads the backbone on every worker.
            featurize(slides, Path(folder) / "warm.zarr", client=client, **choices)
            start = time.perf_counter()
            featurize(slides, Path(folder) / "store.zarr", client=client, **choices)
            return time.perf_counter() - start


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--mean-seconds", type=float, default=4.0)
    choice = parser.parse_args()
    one, two = on_this_machine(1), on_this_machine(2)
    print(f"real workers: 2 take {two / one:.2f} of the time of 1 (ideal 0.50)")
    found = simulate(choice.slides, choice.workers, choice.mean_seconds)
    print(
        f"simulated: {choice.slides} slides on {choice.workers} workers: efficiency "
        f"{found['efficiency']:.3f} of ideal ({found['seconds']:.1f} s against "
        f"{found['ideal']:.1f} s), {found['overhead_ms']:.0f} ms overhead per unit"
    )


if __name__ == "__main__":
    main()
