"""Whether `map` finds the orientation of held-out slides, in each of the eight orientations.

    python -m benchmarks.mounting DATA STORE [--weights FILE] [--slides A,B]

STORE is from `featurize DATA STORE`. Every labelled slide is held out in turn, with its group if
known. Some of its spots are embedded in all eight orientations, as in `map`; for each of them, the
orientation is corrected to upright, left unchanged or corrected wrongly.
"""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.common import make_parser, names
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.featurize.like_model import as_trained
from histoboost.mounting import Mounting, nearest_way
from histoboost.regress.folds import make_folds
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.slides import labelled_slides
from histoboost.slides.readers import open_dataset


def main() -> None:
    """Print the number of orientations by outcome, and their mean novelty, for every slide."""
    parser = make_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("store")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--slides", type=names, help="held-out slides; all by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore", HistoboostWarning)
    dataset, store = open_dataset(args.data), EmbeddingStore(args.store, mode="r")
    spots = labelled_slides(store)
    for fold in make_folds(spots, "auto", args.slides):
        training = [spots[at].slide for at in fold.training]
        model = CompositionRegressor("default", "ridge").fit(store, training, jobs=1)
        todo = as_trained(model.recipes_, [args.weights], args.store, training)
        mounting = Mounting(model, todo, store, "cpu")
        for name in (spots[at].slide for at in fold.held_out):
            if args.slides and name not in args.slides:
                continue
            novelty = mounting.novelty([dataset[name]])[name]
            outcomes = {"corrected to upright": 0, "left unchanged": 0, "corrected wrongly": 0}
            for own in range(len(novelty)):  # 0 is upright
                order = [own, *(way for way in range(len(novelty)) if way != own)]
                chosen = order[nearest_way(novelty[order])]
                if chosen == 0:
                    outcomes["corrected to upright"] += 1
                elif chosen == own:
                    outcomes["left unchanged"] += 1
                else:
                    outcomes["corrected wrongly"] += 1
            counts = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items())
            means = " ".join(f"{mean:.3f}" for mean in np.mean(novelty, axis=1))
            print(f"{name}: {counts}, of {len(novelty)}; mean novelty {means}", flush=True)


if __name__ == "__main__":
    main()
