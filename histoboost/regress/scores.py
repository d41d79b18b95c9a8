"""Scores of held-out slides, fold by fold and over all folds, beside the constant baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.regress.features import FeatureMatrix, Layout
from histoboost.regress.fitting import Predictor, constant_profile, warn_if_constant
from histoboost.regress.folds import Fold
from histoboost.regress.heads.constant import target_of
from histoboost.regress.intervals import Residuals, coverage
from histoboost.regress.metrics import spearman, type_spearman
from histoboost.regress.setup import Setup
from histoboost.regress.targets import fit_target

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore

Array = NDArray[np.float64]
BASELINES = ("mean", "mean-rank")


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Scores of one fold.

    Attributes
    ----------
    held_out : tuple of str
        Names of the held-out slides.
    seed : int
    n_spots : int
    spot_spearman : float
        Mean over the held-out spots.
    type_spearman : float
        Mean over cell types within each held-out slide, then over slides.
    fit_seconds, predict_seconds : float
        Added over the workers that shared the fold.
    baselines : dict
        Per-spot Spearman of the constant profiles on the same spots.
    predictions : dict
        Slide name to predictions (N, T) in units of the target; empty where the fold was kept
        from an earlier run.
    group : str or None
        Name of the group that was held out, where slides were held out by group.
    """

    held_out: tuple[str, ...]
    seed: int
    n_spots: int
    spot_spearman: float
    type_spearman: float
    fit_seconds: float
    predict_seconds: float
    baselines: dict[str, float]
    predictions: dict[str, Array]
    group: str | None = None

    @property
    def name(self) -> str:
        """What was held out, for people: the slides, after the group that they are."""
        slides = ", ".join(self.held_out)
        return slides if self.group is None else f"{self.group} ({slides})"


class Described(Protocol):
    """What a `CrossValidation` has to know of a model."""

    @property
    def features(self) -> str:
        """What it looks at."""
        ...

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def target(self) -> str:
        """What it learns."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The same and more, as plain values."""
        ...


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Folds and what they say.

    Attributes
    ----------
    setup : Described
        A `Setup` with globs in its features resolved, or an end-to-end model's.
    folds : tuple of FoldResult
        One for every held-out group and seed.
    load_seconds : float
    seeds : tuple of int
    """

    setup: Described
    folds: tuple[FoldResult, ...]
    load_seconds: float
    seeds: tuple[int, ...]

    def by_fold(self, score: str) -> Array:
        """`score` of every held-out group, averaged over seeds."""
        values: dict[tuple[str, ...], list[float]] = {}
        for fold in self.folds:
            values.setdefault(fold.held_out, []).append(getattr(fold, score))
        return np.array([np.mean(each) for each in values.values()])

    def mean(self, score: str) -> float:
        """Mean of `score` over the held-out groups."""
        return float(self.by_fold(score).mean())

    def baseline(self, name: str) -> float:
        """Per-spot Spearman of a constant profile, mean over folds."""
        return float(np.mean([fold.baselines[name] for fold in self.folds]))

    def to_json(self) -> dict[str, Any]:
        """The fields of `evaluate --json`."""
        result: dict[str, Any] = {
            **self.setup.to_json(),
            "seeds": list(self.seeds),
            "folds": [
                {
                    "name": fold.name,
                    "held_out": list(fold.held_out),
                    "seed": fold.seed,
                    "n_spots": fold.n_spots,
                    "spot_spearman": fold.spot_spearman,
                    "type_spearman": fold.type_spearman,
                    "fit_seconds": fold.fit_seconds,
                    "baselines": fold.baselines,
                }
                for fold in self.folds
            ],
            "mean": {name: self.mean(name) for name in ("spot_spearman", "type_spearman")},
            "baselines": {name: {"spot_spearman": self.baseline(name)} for name in BASELINES},
            "seconds": {
                "load": self.load_seconds,
                "fit": sum(fold.fit_seconds for fold in self.folds),
                "predict": sum(fold.predict_seconds for fold in self.folds),
            },
        }
        if len(self.seeds) > 1:
            result["seed_spread"] = {
                name: self._seed_spread(name) for name in ("spot_spearman", "type_spearman")
            }
        return result

    def residuals(self, store: EmbeddingStore) -> Residuals:
        """Held-out predictions of the first seed beside the truth."""
        folds = self._residuals_by_fold(store)
        return Residuals(
            tuple(p for fold in folds for p in fold.predicted),
            tuple(t for fold in folds for t in fold.true),
        )

    def coverage(self, store: EmbeddingStore, level: float, how: str = "rank") -> dict[str, Any]:
        """Share of spots and types that intervals of `level` hold, by fold and on average.

        Parameters
        ----------
        store : EmbeddingStore
            Where the truth is.
        level : float
            Share that the intervals are to hold.
        how : str
            Normalisation, see `normalize`.
        """
        folds = self._residuals_by_fold(store)
        if len(folds) < 2:
            raise BadInput("interval: coverage needs two folds; hold out more slides")
        name = target_of(self.setup.model, self.setup.target)
        target = fit_target(name, np.concatenate([t for fold in folds for t in fold.true]))
        shares = coverage(folds, level, how, target)
        return {"folds": shares, "mean": float(np.mean(shares))}

    def _residuals_by_fold(self, store: EmbeddingStore) -> list[Residuals]:
        found = []
        for fold in self.folds:
            if fold.seed == self.seeds[0]:
                tables = [store.spots(slide) for slide in fold.held_out]
                true = [np.asarray(table.abundance, dtype=np.float64) for table in tables]
                found.append(Residuals(tuple(fold.predictions.values()), tuple(true)))
        return found

    def _seed_spread(self, score: str) -> float:
        """Standard deviation over seeds of the mean over folds."""
        means = [
            np.mean([getattr(fold, score) for fold in self.folds if fold.seed == seed])
            for seed in self.seeds
        ]
        return float(np.std(means, ddof=1))


def score_fold(
    matrix: FeatureMatrix, fold: Fold, setup: Setup, predictor: Predictor, fit_seconds: float
) -> FoldResult:
    """Score a model that was trained on a fold's training slides on its held-out ones."""
    start = time.perf_counter()
    tables = [matrix.layout.spots[slide] for slide in fold.held_out]
    predictions = {
        table.slide: predictor.predict(matrix.block(slide), table.xy)
        for slide, table in zip(fold.held_out, tables, strict=True)
    }
    predict_seconds = time.perf_counter() - start
    return score_held_out(matrix.layout, fold, setup, predictions, fit_seconds, predict_seconds)


def score_held_out(
    layout: Layout,
    fold: Fold,
    setup: Setup,
    predictions: dict[str, Array],
    fit_seconds: float,
    predict_seconds: float,
) -> FoldResult:
    """Score predictions of a fold's held-out slides; no features are looked at."""
    if setup.model not in BASELINES:
        for slide, predicted in predictions.items():
            warn_if_constant(predicted, f"slide {slide}")
    true = [layout.abundance(slide) for slide in fold.held_out]
    return score_predictions(
        predictions,
        true,
        seed=setup.seed,
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        baselines={name: _baseline(layout, fold, name, setup, true) for name in BASELINES},
        group=fold.group,
    )


def score_predictions(
    predictions: dict[str, Array],
    true: Sequence[NDArray[Any]],
    *,
    seed: int,
    fit_seconds: float,
    predict_seconds: float,
    baselines: dict[str, float],
    group: str | None = None,
) -> FoldResult:
    """Score predictions of held-out slides, whatever made them.

    Parameters
    ----------
    predictions : dict
        Slide name to predictions (N, T).
    true : sequence of ndarray of shape (N, T)
        Abundances of the same slides, in the same order.
    seed, fit_seconds, predict_seconds, baselines, group
        See `FoldResult`.
    """
    parts = list(predictions.values())
    by_slide = [type_spearman(p, t) for p, t in zip(parts, true, strict=True)]
    return FoldResult(
        held_out=tuple(predictions),
        seed=seed,
        n_spots=sum(map(len, true)),
        spot_spearman=_over_spots(parts, true),
        type_spearman=float(np.mean(by_slide)),
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        baselines=baselines,
        predictions=predictions,
        group=group,
    )


def _over_spots(predicted: Sequence[NDArray[Any]], true: Sequence[NDArray[Any]]) -> float:
    pairs = zip(predicted, true, strict=True)
    return float(np.concatenate([spearman(p, t, axis=1) for p, t in pairs]).mean())


def _baseline(
    layout: Layout, fold: Fold, name: str, setup: Setup, true: Sequence[NDArray[Any]]
) -> float:
    profile = constant_profile([layout.abundance(i) for i in fold.training], name, setup.balance)
    return _over_spots([np.tile(profile, (len(part), 1)) for part in true], true)
