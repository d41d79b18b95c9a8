# ruff: noqa: E402  (threads are limited before numpy is imported)
"""Accuracy and CPU time of stage 2 against one `LGBMRegressor` per cell type, on your own slides.

    python -m benchmarks.naive_loop STORE [--held-out S_2,S_3] [--every 4]

The naive loop gets the same embeddings without neighbours, rank targets and default parameters. It
fits only every fourth cell type, because a fit takes half a minute; all methods are scored on these
types.
"""

from __future__ import annotations

import os
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from lightgbm import LGBMRegressor

from benchmarks.common import make_parser, names
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


def naive(matrix: FeatureMatrix, fold: Fold, every: int) -> np.ndarray:
    """Predictions of the loop for the held-out slide, (N, ceil(T / every))."""
    features = np.concatenate([matrix.block(slide) for slide in fold.training])
    true = np.concatenate([matrix.layout.abundance(slide) for slide in fold.training])
    targets = fit_target("rank", true).forward(true)[:, ::every]
    held_out = matrix.block(fold.held_out[0])
    fits = (LGBMRegressor(n_jobs=1, verbosity=-1).fit(features, column) for column in targets.T)
    return np.stack([fit.predict(held_out) for fit in fits], axis=1)


def main() -> None:
    """Print a row for every method: mean scores over folds, CPU seconds per fold."""
    parser = make_parser(__doc__)
    parser.add_argument("store")
    parser.add_argument("--held-out", type=names)
    parser.add_argument("--every", type=int, default=4)
    args = parser.parse_args()
    store = EmbeddingStore(args.store, mode="r")
    slides = labelled_slides(store)
    print("| method | per spot | per type | CPU seconds per fold |\n|---|---|---|---|")
    for method in ("naive loop", "stack", "lightgbm"):
        setup = Setup("*") if method == "naive loop" else Setup(model=method)
        matrix = assemble(store, describe(store, slides, setup.features), setup.standardize)
        rows = []
        for fold in make_folds(matrix.layout.spots, "slide", args.held_out):
            start = time.process_time()
            if method == "naive loop":
                predicted = naive(matrix, fold, args.every)
            else:
                joint = run_fold(matrix, fold, setup, jobs=1).predictions
                predicted = merge(split(joint[slides[fold.held_out[0]].slide]))[:, :: args.every]
            seconds = time.process_time() - start
            true = matrix.layout.abundance(fold.held_out[0])[:, :: args.every]
            rows.append((spot_spearman(predicted, true), type_spearman(predicted, true), seconds))
        spot, kind, seconds = np.mean(rows, axis=0)
        note = f" (one type in {args.every})" if method == "naive loop" else ""
        print(f"| {method} | {spot:.3f} | {kind:.3f} | {seconds:,.1f}{note} |", flush=True)


if __name__ == "__main__":
    main()
