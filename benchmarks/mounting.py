"""Whether held-out slides are recognised as they lie, in whichever of the eight ways.

    python -m benchmarks.mounting DATA STORE [--weights FILE] [--slides A,B]

STORE is what `featurize DATA STORE` made. Every labelled slide is held out in turn, with its group
where that is known. Some of its spots are embedded in all eight ways, as `map` does, and for each
way in which it might lie is told where it would be laid.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.featurize.like_model import as_trained
from histoboost.mounting import Mounting, nearest_way
from histoboost.regress.folds import make_folds
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.slides import labelled_slides
from histoboost.slides.readers import open_dataset


def main() -> None:
    """Print for every slide from how many ways it is laid upright, left as it lies, or wrong."""
    parser = argparse.ArgumentParser("python -m benchmarks.mounting", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data")
    parser.add_argument("store")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--slides", help="held out; all by default")
    given = parser.parse_args()
    warnings.simplefilter("ignore", HistoboostWarning)
    dataset, store = open_dataset(given.data), EmbeddingStore(given.store, mode="r")
    spots = labelled_slides(store)
    chosen = given.slides.split(",") if given.slides else [table.slide for table in spots]
    for fold in make_folds(spots, "auto", None):
        held_out = [spots[at].slide for at in fold.held_out if spots[at].slide in chosen]
        if not held_out:
            continue
        others = [spots[at].slide for at in fold.training]
        model = CompositionRegressor("default", "ridge").fit(store, others, jobs=1)
        todo = as_trained(model.recipes_, [given.weights], given.store, others)
        mounting = Mounting(model, todo, store, "cpu")
        for name in held_out:
            novelty = mounting.novelty([dataset[name]])[name]
            found = {"laid upright": 0, "left as it lies": 0, "laid wrong": 0}
            for lies in range(len(novelty)):
                order = [lies, *(way for way in range(len(novelty)) if way != lies)]
                laid = order[nearest_way(novelty[order])]
                what = "laid upright" if laid == 0 else "laid wrong"
                found["left as it lies" if laid == lies != 0 else what] += 1
            said = ", ".join(f"{what} {count}" for what, count in found.items())
            means = " ".join(f"{each:.3f}" for each in np.mean(novelty, axis=1))
            print(f"{name}: {said}, of {len(novelty)} ways; mean novelty {means}", flush=True)


if __name__ == "__main__":
    main()
