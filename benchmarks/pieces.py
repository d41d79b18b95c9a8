"""Accuracy on pieces of a section, on your own slides.

    python -m benchmarks.pieces STORE [--held-out SLIDE,...] [--model stack]

Every labelled slide is held out in turn, and parts of it are predicted as separate slides: the 100
outermost spots, quadrants, 60 and 20 neighbouring spots, 20 and 5 random ones. Columns are scores
of the same spots

- ``inside``: predicted with the whole section;
- ``itself``: standardised with the whole section, surroundings estimated from each spot itself,
  which bounds what can be expected of a piece;
- ``own statistics``: standardised with the piece alone;
- ``as histoboost does``: treated as a piece.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import make_parser, names
from histoboost.cache.store import EmbeddingStore
from histoboost.regress.baselines import Truth, scores_of
from histoboost.regress.features import CLIP, assemble
from histoboost.regress.fitting import Predictor, fit_predictor
from histoboost.regress.folds import make_folds
from histoboost.regress.layout import Layout, describe
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides
from histoboost.spots import SpotTable

Rows = NDArray[np.int64]
Features = NDArray[np.float32]
DRAWS = 10


class PartialStore:
    """A store restricted to some spots of its slides."""

    def __init__(self, store: EmbeddingStore, rows: Rows) -> None:
        self._store, self._rows = store, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, slide: str, name: str) -> NDArray[np.float16]:
        """Read the embeddings of the spots."""
        return self._store.read(slide, name)[self._rows]

    def reading(self, slide: str, name: str) -> Callable[[slice], NDArray[np.float16]]:
        """Return a function that reads some of them."""
        return self.read(slide, name).__getitem__


def select_spots(table: SpotTable, rows: Rows) -> SpotTable:
    """Select spots of a labelled slide."""
    assert table.abundance is not None
    ids = tuple(table.spot_ids[row] for row in rows)
    return replace(table, xy=table.xy[rows], spot_ids=ids, abundance=table.abundance[rows])


def pieces(table: SpotTable) -> Iterator[tuple[str, Rows]]:
    """Yield the kind and the rows of every piece."""
    rng, xy = np.random.default_rng(0), table.xy
    yield "100 outermost", np.sort(np.argsort(-np.hypot(*(xy - xy.mean(axis=0)).T))[:100])
    right, low = (xy > np.median(xy, axis=0)).T
    for a in (right, ~right):
        for b in (low, ~low):
            yield "quadrant", np.flatnonzero(a & b)
    for count in (60, 20):
        for _ in range(DRAWS):
            distance = np.hypot(*(xy - xy[rng.integers(len(xy))]).T)
            yield f"{count} together", np.sort(np.argsort(distance)[:count])
    for count in (20, 5):
        for _ in range(2 * DRAWS):
            yield f"{count} at random", np.sort(rng.choice(len(xy), count, replace=False))


def score(predicted: NDArray[np.float64], table: SpotTable, predictor: Predictor) -> list[float]:
    """Per-spot and per-type Spearman."""
    scores, _ = scores_of([predicted], [Truth.from_spots(table)], predictor.target)
    return [scores["spot_spearman"], scores["type_spearman"]]


def by_itself(predictor: Predictor, layout: Layout, values: Features) -> Features:
    """Features (N, D) with the surroundings of each spot estimated from the spot itself."""
    around = np.zeros(values.shape[1], bool)
    for columns in layout.columns:
        around[columns.start : columns.stop] = bool(columns.term.around)
    if (similarities := predictor.fitted.similarities) is None or not around.any():
        return values
    values = values.copy()
    values[:, around] = np.clip(similarities.complete(values, ~around), -CLIP, CLIP)
    return values


def format_row(name: str, scores: Sequence[Sequence[float]]) -> str:
    """Format means, per spot / per type, of several rows of scores."""
    pairs = np.mean(scores, axis=0).reshape(-1, 2)
    return "  ".join([f"{name:<16}", *(f"{spot:.3f} / {kind:.3f}" for spot, kind in pairs)])


def main() -> None:
    """Print a row for every held-out slide and its rim, then means over all slides."""
    parser = make_parser(__doc__)
    parser.add_argument("store")
    parser.add_argument("--held-out", type=names)
    parser.add_argument("--model", default="stack")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    store = EmbeddingStore(args.store, mode="r")
    spots, setup = labelled_slides(store), Setup(model=args.model)
    layout = describe(store, spots, setup.features)
    setup = replace(setup, features=layout.features)
    matrix = assemble(store, layout)
    found: dict[str, list[list[float]]] = {}
    for fold in make_folds(spots, setup.group_by, args.held_out):
        predictor = fit_predictor(matrix, fold.training, setup)
        for slide in fold.held_out:
            table = spots[slide]
            inside = predictor.predict_slide(matrix, slide)
            whole = score(inside, table, predictor)
            plain = score(predictor.predict(matrix.block(slide), table.xy), table, predictor)
            found.setdefault("whole", []).append([*whole, *whole, *plain, *whole])
            print(format_row(f"whole {table.slide}", [[*whole, *plain]]), flush=True)
            for kind, rows in pieces(table):
                piece = select_spots(table, rows)
                part: Any = PartialStore(store, rows)
                own = assemble(part, replace(layout, spots=(piece,)))
                alone = by_itself(predictor, layout, matrix.block(slide)[rows])
                predictions = [
                    inside[rows],
                    predictor.predict(alone, piece.xy),
                    predictor.predict(own.values, piece.xy),
                    predictor.predict_slide(own, 0),
                ]
                scores = [value for each in predictions for value in score(each, piece, predictor)]
                found.setdefault(kind, []).append(scores)
                if kind == "100 outermost":
                    print(format_row(f"rim of {table.slide}", [scores]), flush=True)
    print("\nkind              inside         itself         own statistics  as histoboost does")
    for kind, rows_of_scores in found.items():
        print(format_row(kind, rows_of_scores))


if __name__ == "__main__":
    main()
