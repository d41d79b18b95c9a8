"""Coverage of prediction intervals on exchangeable phantom slides.

    python -m benchmarks.intervals [--slides 5] [--level 0.9] [--draws 20]

In every draw, a model with intervals is trained on some phantom slides and predicts as many new
ones. Coverage, the fraction of spots and types whose true value is within its interval, is printed
by units.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.common import make_parser
from benchmarks.scale import make_store
from histoboost.errors import HistoboostWarning
from histoboost.regress.intervals import _truth
from histoboost.regress.model import CompositionRegressor

UNITS = ("rank", "share", "rank-slide")
SPOTS, FEATURES, TYPES = 100, 64, 6


def coverage(folder: Path, slides: int, level: float, seed: int) -> list[list[float]]:
    """Coverage of one draw, by units and new slide."""
    store = folder / f"{seed}.zarr"
    make_store(store, SPOTS * 2 * slides, FEATURES, 2 * slides, TYPES, seed)
    names = [f"S_{i + 1}" for i in range(2 * slides)]
    model = CompositionRegressor("*", "kernel").fit(store, names[:slides], jobs=1, intervals=True)
    covered = []
    for units in UNITS:
        covered.append([])
        for prediction in model.predict(store, names[slides:], units=units, interval=level):
            assert prediction.low is not None
            assert prediction.high is not None
            assert prediction.spots.abundance is not None
            true = _truth(prediction.spots.abundance, units, model.predictor_.target)
            inside = (true >= prediction.low) & (true <= prediction.high)
            covered[-1].append(float(np.mean(inside)))
    return covered


def main() -> None:
    """Print mean coverage and its range over draws and slides."""
    parser = make_parser(__doc__)
    parser.add_argument("--slides", type=int, default=5)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore", HistoboostWarning)
    with tempfile.TemporaryDirectory() as folder:
        covered = np.array(
            [coverage(Path(folder), args.slides, args.level, i) for i in range(args.draws)]
        )
    for units, slides in zip(UNITS, covered.swapaxes(0, 1), strict=True):
        draws = slides.mean(axis=1)
        print(
            f"{units}: mean coverage {slides.mean():.3f} over {args.draws} draws of {args.slides} "
            f"slides, {draws.min():.3f} to {draws.max():.3f} by draw, {slides.min():.3f} to "
            f"{slides.max():.3f} by slide"
        )


if __name__ == "__main__":
    main()
