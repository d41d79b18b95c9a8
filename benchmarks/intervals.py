"""Whether prediction intervals hold what they promise on exchangeable phantom slides.

    python -m benchmarks.intervals [--slides 5] [--level 0.9] [--draws 20]

For every draw, a model with intervals is trained on a few phantom slides and asked of as many new
ones; printed is the share of spots and types that its intervals hold, by units.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.scale import make_store
from histoboost.errors import HistoboostWarning
from histoboost.regress.intervals import _truth
from histoboost.regress.model import CompositionRegressor

UNITS = ("rank", "share", "rank-slide")
SPOTS, FEATURES, TYPES = 100, 64, 6


def one_draw(folder: Path, slides: int, level: float, seed: int) -> list[list[float]]:
    """Shares held, unit by unit and new slide by new slide."""
    store = folder / f"{seed}.zarr"
    make_store(store, SPOTS * 2 * slides, FEATURES, 2 * slides, TYPES, seed)
    names = [f"S_{i + 1}" for i in range(2 * slides)]
    model = CompositionRegressor("*", "kernel").fit(store, names[:slides], jobs=1, intervals=True)
    held = []
    for units in UNITS:
        asked = model.predict(store, names[slides:], units=units, interval=level)
        found = []
        for one in asked:
            assert one.low is not None
            assert one.high is not None
            assert one.spots.abundance is not None
            true = _truth(one.spots.abundance, units, model.predictor_.target)
            found.append(float(np.mean((true >= one.low) & (true <= one.high))))
        held.append(found)
    return held


def main() -> None:
    """Print the mean over draws, and how far single draws and slides lie from it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=5)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore", HistoboostWarning)
    with tempfile.TemporaryDirectory() as folder:
        held = np.array(
            [one_draw(Path(folder), given.slides, given.level, i) for i in range(given.draws)]
        )
    for at, units in enumerate(UNITS):
        draws = held[:, at].mean(axis=1)
        print(
            f"{units}: {held[:, at].mean():.3f} in the mean over {given.draws} draws of "
            f"{given.slides} slides ({draws.min():.3f} to {draws.max():.3f}), single slides "
            f"{held[:, at].min():.3f} to {held[:, at].max():.3f}"
        )


if __name__ == "__main__":
    main()
