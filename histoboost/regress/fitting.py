"""Training one model on some slides, and predicting others with it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.regress.budget import one_blas_thread
from histoboost.regress.features import FeatureMatrix, Layout
from histoboost.regress.heads.base import Begun, DivisibleHead, Fitted, Training, make_head
from histoboost.regress.heads.constant import target_of
from histoboost.regress.reduce import Reduction, fit_reduction
from histoboost.regress.setup import Setup
from histoboost.regress.smoothing import smooth
from histoboost.regress.targets import Target, fit_target

Array = NDArray[np.float64]

#: Share of the variance of predictions that lies between spots, below which they count as one
#: profile for all.
HARDLY_VARIES = 1e-3


@dataclass(frozen=True)
class Predictor:
    """A trained model together with what was fitted before and is done after it."""

    target: Target
    reduction: Reduction
    fitted: Fitted
    smooth: float

    def predict(self, values: NDArray[np.float32], xy: Array) -> Array:
        """Features (N, F) and centres (N, 2) of one slide to predictions (N, T), target units."""
        return smooth(self.unsmoothed(values), xy, self.smooth)

    def unsmoothed(self, values: NDArray[np.float32]) -> Array:
        """`predict` before it is smoothed."""
        with one_blas_thread():
            return self.fitted.predict(self.reduction.apply(values))


@dataclass(frozen=True, eq=False)
class BegunPredictor:
    """A training of which all is done that the cell types have in common."""

    target: Target
    reduction: Reduction
    begun: Begun
    smooth: float

    def grow(self, types: Sequence[int]) -> Predictor:
        """A predictor of these types only."""
        with one_blas_thread():
            return Predictor(self.target, self.reduction, self.begun.grow(types), self.smooth)


def fit_predictor(
    matrix: FeatureMatrix, slides: Sequence[int], setup: Setup, jobs: int | None = None
) -> Predictor:
    """Train on the slides with these indices; the rest of the matrix is not looked at.

    Parameters
    ----------
    matrix : FeatureMatrix
        Features of these and perhaps other slides.
    slides : sequence of int
        Indices of training slides, all labelled.
    setup : Setup
        What to learn and how.
    jobs : int, optional
        Cores to use at most.
    """
    with one_blas_thread():
        target, reduction, training = _prepare(matrix, slides, setup, jobs)
        return Predictor(target, reduction, make_head(setup.model).fit(training), setup.smooth)


def begin_predictor(
    matrix: FeatureMatrix, slides: Sequence[int], setup: Setup, jobs: int | None = None
) -> BegunPredictor:
    """`fit_predictor` up to where cell types go apart; `common_share` says whether they do."""
    head = make_head(setup.model)
    if not isinstance(head, DivisibleHead):
        raise TypeError(f"model {setup.model}: trains all cell types at once")
    with one_blas_thread():
        target, reduction, training = _prepare(matrix, slides, setup, jobs)
        return BegunPredictor(target, reduction, head.begin(training), setup.smooth)


def common_share(setup: Setup) -> float:
    """Share of a training that cell types have in common; 1 where they are trained at once."""
    head = make_head(setup.model)
    return head.common_share(setup.options) if isinstance(head, DivisibleHead) else 1.0


def _prepare(
    matrix: FeatureMatrix, slides: Sequence[int], setup: Setup, jobs: int | None
) -> tuple[Target, Reduction, Training]:
    """What a head learns from.

    Called with matrix products kept to one thread: the order of the sums, and with it the last
    digits that trees decide by, must not depend on how many cores a machine has.
    """
    abundances = [matrix.abundance(slide) for slide in slides]
    target = fit_target(target_of(setup.model, setup.target), np.concatenate(abundances))
    blocks = [matrix.block(slide) for slide in slides]
    reduction = fit_reduction(matrix.layout.columns, blocks, setup.seed)
    training = Training(
        blocks=[reduction.apply(block) for block in blocks],
        targets=[target.forward(abundance) for abundance in abundances],
        weights=_weights([len(block) for block in blocks], setup.balance),
        groups=group_names(matrix.layout, slides, setup.group_by),
        seed=setup.seed,
        jobs=jobs,
        options=setup.options,
    )
    return target, reduction, training


def constant_profile(abundances: Sequence[NDArray[Any]], name: str, balance: str) -> Array:
    """The profile (T,) that the head `mean` or `mean-rank` gives every spot.

    Parameters
    ----------
    abundances : sequence of ndarray of shape (n, T)
        Of the training slides.
    name : str
        ``"mean"`` or ``"mean-rank"``.
    balance : str
        See `Setup`.
    """
    together = np.concatenate(abundances)
    target = fit_target(target_of(name, "raw"), together)
    weights = np.concatenate(_weights([len(part) for part in abundances], balance))
    return np.asarray(np.average(target.forward(together), axis=0, weights=weights))


def group_names(layout: Layout, slides: Sequence[int], group_by: str) -> list[str]:
    """What each slide is held out with.

    Raises
    ------
    HistoboostError
        If groups are asked for and a slide has none.
    """
    tables = [layout.spots[slide] for slide in slides]
    if group_by == "slide":
        return [table.slide for table in tables]
    names = []
    for table in tables:
        if table.group is None:
            raise BadInput(
                f"slide {table.slide}: has no group; give groups with histoboost cache relabel "
                "STORE DATA --groups FILE.csv, or use --group-by slide"
            )
        names.append(table.group)
    return names


def _weights(sizes: Sequence[int], balance: str) -> list[Array]:
    """Sample weights, mean 1 over all spots; all slides alike in sum where `balance` says so."""
    if balance == "none":
        return [np.ones(size) for size in sizes]
    each = sum(sizes) / len(sizes)
    return [np.full(size, each / size) for size in sizes]


def warn_if_constant(predicted: Array, what: str) -> None:
    """Warn where the predictions for one slide hardly differ between spots."""
    total = float(np.var(predicted))
    between = float(np.var(predicted, axis=0).mean())
    if len(predicted) > 1 and between <= HARDLY_VARIES * total:
        warnings.warn(
            f"{what}: predictions hardly vary across spots; this is close to one constant "
            "profile, whatever its per-spot score",
            HistoboostWarning,
            stacklevel=2,
        )
