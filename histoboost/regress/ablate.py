"""Does this feature set help? Several of them, scored on the same folds and compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from histoboost.errors import BadInput, warnings_kept
from histoboost.regress.crossval import run_folds
from histoboost.regress.expression import parse_features
from histoboost.regress.features import describe
from histoboost.regress.folds import labelled_slides
from histoboost.regress.scores import CrossValidation
from histoboost.regress.setup import Setup

if TYPE_CHECKING:
    from distributed import Client

    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.fold_cache import KeptFolds

SCORES = ("spot_spearman", "type_spearman")
#: Folds below which an interval says little, and is said to.
FEW_FOLDS = 10


@dataclass(frozen=True)
class Difference:
    """A paired difference over folds.

    Attributes
    ----------
    mean : float
    interval : tuple of two floats, or None
        95 % by Student's t over folds; None with one fold.
    """

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Ablation:
    """Scores of several feature sets on the same folds.

    Attributes
    ----------
    rows : tuple of CrossValidation
        In the order asked for; the first is what the others are compared with.
    """

    rows: tuple[CrossValidation, ...]

    def difference(self, row: int, score: str) -> Difference:
        """`score` of a row less that of the first, fold by fold (seeds averaged)."""
        return paired_difference(self.rows[row].by_fold(score), self.rows[0].by_fold(score))

    @property
    def caution(self) -> str:
        """A plain word on what so many folds can tell."""
        folds = len(self.rows[0].by_fold(SCORES[0]))
        if folds >= FEW_FOLDS:
            return f"95 % intervals over {folds} folds."
        return (
            f"Only {folds} folds: the 95 % intervals are wide and rest on normally distributed "
            "differences; take a difference seriously where every fold agrees on its sign."
        )

    def to_json(self) -> dict[str, Any]:
        """The fields of `ablate --json`."""
        rows = []
        for index, row in enumerate(self.rows):
            result = row.to_json()
            for score in SCORES:
                difference = self.difference(index, score)
                result[f"delta_{score}"] = difference.mean
                result[f"delta_{score}_interval"] = difference.interval
            rows.append(result)
        return {"rows": rows, "caution": self.caution}


def paired_difference(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Difference:
    """Mean of ``values - reference`` and its 95 % interval by Student's t.

    Parameters
    ----------
    values, reference : ndarray of shape (folds,)
        Scores of the same folds.
    """
    differences = np.asarray(values) - np.asarray(reference)
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return Difference(mean, None)
    half = float(student.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return Difference(mean, (mean - half, mean + half))


def ablate(
    store: EmbeddingStore,
    features: Sequence[str],
    *,
    leave_one_out: bool = False,
    seeds: int = 1,
    slides: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    jobs: int | None = None,
    kept: KeptFolds | None = None,
    client: Client | None = None,
    setups: Sequence[Setup] = (),
    **more: Any,
) -> Ablation:
    """Score several feature sets and compare them with the first.

    Parameters
    ----------
    store : EmbeddingStore
        Embeddings, coordinates and abundances.
    features : sequence of str
        Feature-set expressions.
    leave_one_out : bool
        Also score the first one with each of its terms left out.
    seeds, slides, held_out, jobs, client
        As for `cross_validate`.
    kept : KeptFolds, optional
        Where results are kept, so that an interrupted ablation goes on where it was.
    setups : sequence of Setup, optional
        Further rows that differ in more than their features.
    **more
        Fields of `Setup`, the same for all feature sets.

    Returns
    -------
    Ablation

    Raises
    ------
    HistoboostError
        If there is nothing to compare, or as for `cross_validate`.
    """
    rows = [Setup(spec, **more) for spec in features]
    if len(rows) + len(setups) < 2 and not (leave_one_out and rows):
        raise BadInput(
            "ablate: nothing to compare; give --features twice or more, or --leave-one-out"
        )
    chosen = labelled_slides(store, slides)
    if leave_one_out and rows:
        specs = _without_each(store, chosen, rows[0])
        rows += [replace(rows[0], features=spec) for spec in specs]
    rows += setups
    _check_all(store, chosen, rows)
    return Ablation(
        tuple(
            run_folds(
                store,
                row,
                seeds=seeds,
                slides=slides,
                held_out=held_out,
                jobs=jobs,
                kept=kept,
                client=client,
            )
            for row in rows
        )
    )


def _check_all(store: EmbeddingStore, slides: Sequence[str], rows: Sequence[Setup]) -> None:
    """Have a slip in the last feature set show before the first one is computed."""
    with warnings_kept():  # said again when it is the row's turn
        for row in rows:
            describe(store, slides, row.features)


def _without_each(store: EmbeddingStore, slides: Sequence[str], setup: Setup) -> list[str]:
    with warnings_kept():
        resolved = describe(store, slides, setup.features).features
    terms = parse_features(resolved)
    if len(terms) < 2:
        raise BadInput(
            f"leave-one-out: {setup.features!r} has one term; give a feature set of two or more"
        )
    return ["+".join(str(term) for term in terms if term != left) for left in terms]
