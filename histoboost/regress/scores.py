"""Scores of held-out slides, by fold and over all folds, with baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from histoboost.errors import BadInput
from histoboost.regress.baselines import CONSTANTS, SCORES, Truth, baselines, scores_of
from histoboost.regress.features import Features
from histoboost.regress.fitting import Predictor, fit_predictor, warn_if_constant
from histoboost.regress.folds import Fold
from histoboost.regress.heads.base import Array
from histoboost.regress.heads.constant import target_of
from histoboost.regress.intervals import Residuals, coverage
from histoboost.regress.setup import Setup
from histoboost.regress.targets import Target, fit_target
from histoboost.regress.units import to_units
from histoboost.spots import SpotTable


@dataclass(frozen=True, eq=False, repr=False)
class FoldResult:
    """Scores of one fold.

    Attributes
    ----------
    held_out : tuple of str
        Names of the held-out slides.
    seed : int
        Seed of the model.
    n_spots : int
        Number of held-out spots.
    spot_spearman : float
        Mean over the held-out spots.
    type_spearman : float
        Mean over cell types within each held-out slide, then over slides.
    type_pearson : float
        Likewise for Pearson correlations of shares.
    share_rmse, share_jsd : float
        Root mean square error and mean Jensen-Shannon divergence (bits) of the shares of all
        held-out spots with any abundance.
    fit_seconds, predict_seconds : float
        Wall time.
    baselines : dict
        Name of a baseline to its five scores on the same spots.
    types : dict
        Cell type to ``{"spearman", "pearson"}``, means over held-out slides.
    predictions : dict
        Slide name to predictions of the target; empty if the fold was loaded from an earlier run.
    group : str or None
        Name of the held-out group, if slides were held out by group.
    """

    held_out: tuple[str, ...]
    seed: int
    n_spots: int
    spot_spearman: float
    type_spearman: float
    type_pearson: float
    share_rmse: float
    share_jsd: float
    fit_seconds: float
    predict_seconds: float
    baselines: dict[str, dict[str, float]]
    types: dict[str, dict[str, float]]
    predictions: dict[str, Array]
    group: str | None = None

    @property
    def name(self) -> str:
        """Held-out slides, with their group, as text."""
        slides = ", ".join(self.held_out)
        return slides if self.group is None else f"{self.group} ({slides})"

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions."""
        return {
            "name": self.name,
            "held_out": list(self.held_out),
            "seed": self.seed,
            "n_spots": self.n_spots,
            **{score: getattr(self, score) for score in SCORES},
            "fit_seconds": self.fit_seconds,
            "baselines": self.baselines,
            "types": self.types,
        }

    def __repr__(self) -> str:
        scores = ", ".join(f"{score} {getattr(self, score):.3f}" for score in SCORES)
        return f"<FoldResult: {self.name} held out, {self.n_spots} spots, {scores}>"


class Described(Protocol):
    """Parameters of a model, as `Setup` has them."""

    @property
    def features(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def target(self) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Scores of a cross-validation.

    Attributes
    ----------
    setup : Described
        Parameters of the model, with globs in the features resolved.
    folds : tuple of FoldResult
        One per held-out slide (or group) and seed.
    load_seconds : float
        Wall time of reading.
    seeds : tuple of int
        Random seeds.
    spots : tuple of SpotTable
        The slides; empty for an end-to-end model.
    """

    setup: Described
    folds: tuple[FoldResult, ...]
    load_seconds: float
    seeds: tuple[int, ...]
    spots: tuple[SpotTable, ...] = ()

    def by_fold(self, score: str) -> Array:
        """`score` of each held-out slide (or group), averaged over seeds."""
        values: dict[tuple[str, ...], list[float]] = {}
        for fold in self.folds:
            values.setdefault(fold.held_out, []).append(getattr(fold, score))
        return np.array([np.mean(each) for each in values.values()])

    def mean(self, score: str) -> float:
        """Mean of `score` over held-out slides (or groups)."""
        return float(self.by_fold(score).mean())

    def baseline(self, name: str, score: str = "spot_spearman") -> float:
        """Mean score of a baseline over folds."""
        return float(np.mean([fold.baselines[name][score] for fold in self.folds]))

    def to_frame(self) -> pd.DataFrame:
        """One row per fold: held-out slides, seed, spots, scores, baselines and seconds."""
        rows = [fold.to_json() for fold in self.folds]
        for row in rows:
            row["held_out"] = ", ".join(row["held_out"])
            for name, scores in row.pop("baselines").items():
                row |= {f"{name}_{score}": value for score, value in scores.items()}
            del row["types"]
        return pd.DataFrame(rows).drop(columns="name")

    def to_json(self) -> dict[str, Any]:
        """The fields of `evaluate --json`."""
        result: dict[str, Any] = {
            **self.setup.to_json(),
            "seeds": list(self.seeds),
            "folds": [fold.to_json() for fold in self.folds],
            "mean": {name: self.mean(name) for name in SCORES},
            "baselines": {
                name: {score: self.baseline(name, score) for score in SCORES}
                for name in self.folds[0].baselines
            },
            "seconds": {
                "load": self.load_seconds,
                "fit": sum(fold.fit_seconds for fold in self.folds),
                "predict": sum(fold.predict_seconds for fold in self.folds),
            },
        }
        if len(self.seeds) > 1:
            result["seed_spread"] = {name: self._seed_spread(name) for name in SCORES}
        return result

    def residuals(self) -> list[Residuals]:
        """Held-out predictions of the first seed and the truth, by fold."""
        true = {table.slide: np.asarray(table.abundance, np.float64) for table in self.spots}
        return [
            Residuals(
                tuple(fold.predictions.values()),
                tuple(true[s] for s in fold.held_out),
                (0,) * len(fold.held_out),
            )
            for fold in self.folds
            if fold.seed == self.seeds[0]
        ]

    def coverage(self, level: float, units: str = "rank") -> dict[str, Any]:
        """Coverage of prediction intervals: share of spots and types, by fold and mean.

        Parameters
        ----------
        level : float
            Nominal coverage of the intervals.
        units : str
            Units of the predictions, as for `CompositionRegressor.predict`.
        """
        folds = self.residuals()
        if len(folds) < 2:
            raise BadInput("interval: coverage needs two folds; hold out more slides")
        name = target_of(self.setup.model, self.setup.target)
        target = fit_target(name, np.concatenate([t for fold in folds for t in fold.true]))
        shares = coverage(folds, level, units, target)
        return {"folds": shares, "mean": float(np.mean(shares))}

    def _seed_spread(self, score: str) -> float:
        """Standard deviation over seeds of the mean score over folds."""
        means = [
            np.mean([getattr(fold, score) for fold in self.folds if fold.seed == seed])
            for seed in self.seeds
        ]
        return float(np.std(means, ddof=1))

    def __repr__(self) -> str:
        scores = ", ".join(f"{score} {self.mean(score):.3f}" for score in SCORES)
        return (
            f"<CrossValidation: {self.setup.model} on {self.setup.features}, "
            f"{len(self.folds)} folds, {scores}>"
        )


def run_fold(matrix: Features, fold: Fold, setup: Setup, jobs: int | None = None) -> FoldResult:
    """Train on the training slides of a fold and score the held-out ones."""
    start = time.perf_counter()
    predictor = fit_predictor(matrix, fold.training, setup, jobs)
    return score_fold(matrix, fold, setup, predictor, time.perf_counter() - start)


def score_fold(
    matrix: Features, fold: Fold, setup: Setup, predictor: Predictor, fit_seconds: float
) -> FoldResult:
    """Score a trained model on the held-out slides of a fold."""
    start, layout = time.perf_counter(), matrix.layout
    held_out = [layout.spots[slide] for slide in fold.held_out]
    predictions = {
        table.slide: predictor.predict_slide(matrix, slide)
        for slide, table in zip(fold.held_out, held_out, strict=True)
    }
    predict_seconds = time.perf_counter() - start
    if setup.model not in CONSTANTS:
        for slide, predicted in predictions.items():
            warn_if_constant(to_units(predicted, "none", predictor.target), f"slide {slide}")
    training = [layout.spots[slide] for slide in fold.training]
    return score_predictions(
        predictions,
        held_out,
        predictor.target,
        seed=setup.seed,
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        baselines=baselines(training, held_out, setup),
        group=fold.group,
    )


def score_predictions(
    predictions: dict[str, Array],
    held_out: Sequence[SpotTable],
    target: Target,
    *,
    seed: int,
    fit_seconds: float,
    predict_seconds: float,
    baselines: dict[str, dict[str, float]],
    group: str | None = None,
) -> FoldResult:
    """Score predictions of the target for held-out slides; see `FoldResult`."""
    truths = [Truth.from_spots(table) for table in held_out]
    scores, types = scores_of(list(predictions.values()), truths, target)
    return FoldResult(
        held_out=tuple(predictions),
        seed=seed,
        n_spots=sum(map(len, held_out)),
        **scores,
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        baselines=baselines,
        types=types,
        predictions=predictions,
        group=group,
    )
