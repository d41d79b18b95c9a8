"""What a model says of pieces of a section, and of sections mounted another way: run on your data.

    python -m benchmarks.pieces STORE [--turned STORE ...] [--held-out SLIDE,...] [--model stack]

Pieces: every labelled slide is held out in turn, and parts of it are predicted as slides of their
own: the 100 outermost spots, quadrants, 60 and 20 spots about a place, 20 and 5 drawn from all.
``inside`` is the score of the same spots where the whole section is predicted. ``itself`` is what a
spot tells by itself: standardised with the whole section, its surroundings told by the spot. No
piece of which only these spots are there can be expected to do better.

Turned: the other stores hold the same slides, embedded from images that were turned or mirrored.
A model of the upright slides predicts the held-out one as it is there.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.baselines import Truth, scores_of
from histoboost.regress.features import CLIP, FeatureMatrix, assemble
from histoboost.regress.fitting import Predictor, fit_predictor
from histoboost.regress.folds import make_folds
from histoboost.regress.layout import Layout, describe
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides, named_slides
from histoboost.spots import SpotTable

Rows = NDArray[np.int64]
Features = NDArray[np.float32]
DRAWS = 10


class Parts:
    """A store that shows only some spots of its slides."""

    def __init__(self, store: EmbeddingStore, rows: Rows) -> None:
        self._store, self._rows = store, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, slide: str, name: str) -> NDArray[np.float16]:
        """The embeddings of these spots."""
        return self._store.read(slide, name)[self._rows]

    def reading(self, slide: str, name: str) -> Callable[[slice], NDArray[np.float16]]:
        """What reads some of them."""
        return self.read(slide, name).__getitem__


def part_of(table: SpotTable, rows: Rows) -> SpotTable:
    """The slide with these spots alone."""
    assert table.abundance is not None
    ids = tuple(table.spot_ids[row] for row in rows)
    return replace(table, xy=table.xy[rows], spot_ids=ids, abundance=table.abundance[rows])


def pieces(table: SpotTable) -> Iterator[tuple[str, Rows]]:
    """Names of kinds of pieces, and their rows."""
    rng, xy = np.random.default_rng(0), table.xy
    yield "100 outermost", np.sort(np.argsort(-np.hypot(*(xy - xy.mean(axis=0)).T))[:100])
    right, low = (xy > np.median(xy, axis=0)).T
    for a in (right, ~right):
        for b in (low, ~low):
            yield "quadrant", np.flatnonzero(a & b)
    for count in (60, 20):
        for _ in range(DRAWS):
            away = np.hypot(*(xy - xy[rng.integers(len(xy))]).T)
            yield f"{count} together", np.sort(np.argsort(away)[:count])
    for count in (20, 5):
        for _ in range(2 * DRAWS):
            yield f"{count} at random", np.sort(rng.choice(len(xy), count, replace=False))


def score(predicted: NDArray[np.float64], table: SpotTable, predictor: Predictor) -> list[float]:
    """Per-spot and per-type Spearman."""
    found = scores_of([predicted], [Truth.from_spots(table)], predictor.target)[0]
    return [found["spot_spearman"], found["type_spearman"]]


def matrix_of(store: EmbeddingStore, layout: Layout, table: SpotTable, rows: Rows) -> FeatureMatrix:
    """Features of some spots of a slide as a slide of its own."""
    alone = replace(layout, spots=(part_of(table, rows),))
    return assemble(Parts(store, rows), alone)  # type: ignore[arg-type]


def by_itself(predictor: Predictor, layout: Layout, values: Features) -> Features:
    """Features of spots whose surroundings are told by what the spots themselves look like."""
    around = np.zeros(values.shape[1], bool)
    for columns in layout.columns:
        around[columns.start : columns.stop] = bool(columns.term.around)
    if (similarities := predictor.fitted.similarities) is None or not around.any():
        return values
    values = values.copy()
    values[:, around] = np.clip(similarities.complete(values, ~around), -CLIP, CLIP)
    return values


def line(name: str, values: Sequence[Sequence[float]]) -> str:
    """Means, spot / type, of several scores."""
    pairs = np.mean(values, axis=0).reshape(-1, 2)
    return "  ".join([f"{name:<16}", *(f"{spot:.3f} / {kind:.3f}" for spot, kind in pairs)])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.pieces", description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--turned", nargs="*", default=[])
    parser.add_argument("--held-out")
    parser.add_argument("--model", default="stack")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    store = EmbeddingStore(arguments.store, mode="r")
    turned = {path: EmbeddingStore(path, mode="r") for path in arguments.turned}
    spots, setup = labelled_slides(store), Setup(model=arguments.model)
    layout = describe(store, spots, setup.features)
    setup = replace(setup, features=layout.features)
    matrix = assemble(store, layout)
    held_out = arguments.held_out.split(",") if arguments.held_out else None
    found: dict[str, list[list[float]]] = {}
    for fold in make_folds(spots, setup.group_by, held_out):
        predictor = fit_predictor(matrix, fold.training, setup)
        for slide in fold.held_out:
            table = spots[slide]
            inside = predictor.predict_slide(matrix, slide)
            whole = score(inside, table, predictor)
            plain = score(predictor.predict(matrix.block(slide), table.xy), table, predictor)
            found.setdefault("whole", []).append([*whole, *whole, *plain, *whole])
            print(line(f"whole {table.slide}", [[*whole, *plain]]), flush=True)
            for kind, rows in pieces(table):
                own, piece = matrix_of(store, layout, table, rows), part_of(table, rows)
                alone = by_itself(predictor, layout, matrix.block(slide)[rows])
                scores = [
                    score(inside[rows], piece, predictor),
                    score(predictor.predict(alone, piece.xy), piece, predictor),
                    score(predictor.predict(own.values, piece.xy), piece, predictor),
                    score(predictor.predict_slide(own, 0), piece, predictor),
                ]
                found.setdefault(kind, []).append(sum(scores, []))
                if kind == "100 outermost":
                    print(line(f"rim of {table.slide}", [sum(scores, [])]), flush=True)
            for path, other in turned.items():
                there = describe(other, named_slides(other, [table.slide]), setup.features)
                said = predictor.predict_slide(assemble(other, there), 0)
                scores = [whole, score(said, table, predictor)]
                found.setdefault(f"turned {path}", []).append(sum(scores, []))
    print("\nkind              inside         itself         own statistics  as histoboost does")
    for kind, values in found.items():
        if not kind.startswith("turned"):
            print(line(kind, values))
    print("\nturned            upright        turned")
    for kind, values in found.items():
        if kind.startswith("turned"):
            print(line(kind.removeprefix("turned "), values))


if __name__ == "__main__":
    main()
