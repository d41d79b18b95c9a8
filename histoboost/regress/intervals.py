"""Prediction intervals from the residuals of held-out slides.

The interval of a spot is its prediction plus and minus a quantile, per cell type, of the absolute
errors on held-out slides. The errors within a slide are correlated, so slides (or groups) are the
unit: all have equal weight, and the level of the quantile is the one at which intervals from the
other slides have the nominal coverage, on average over slides held out in turn (as in jackknife+
and CV+, Barber et al. 2021; for groups, Lee, Barber and Willett 2023). Coverage of single slides
varies; `evaluate` reports that of each fold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, warn
from histoboost.regress.heads.base import Array, group_members
from histoboost.regress.targets import Target
from histoboost.regress.units import UNITS, to_units

#: Why a model has no intervals, and the remedy.
NO_INTERVALS = (
    "was trained without prediction intervals; train it again with --intervals (intervals=True in "
    "Python)"
)


def check_level(level: float) -> None:
    """Refuse a level of intervals that is not between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise BadInput(f"interval {level}: must lie between 0 and 1, such as 0.9")


@dataclass(frozen=True, eq=False)
class Residuals:
    """Held-out predictions (n, width) of the target and true abundances (n, T), by slide.

    Slides with equal `groups` were held out together; None in models of 0.1.0, whose intervals are
    quantiles over all spots.
    """

    predicted: tuple[Array, ...]
    true: tuple[Array, ...]
    groups: tuple[int, ...] | None

    def half_width(self, level: float, units: str, target: Target) -> Array:
        """Half-width (T,) of the interval that covers a share `level` of a new slide's spots.

        Warn if there are too few slides (or groups) to guarantee the level, or if the largest
        errors do not reach it.
        """
        _warn_of_few(len(group_members(self.groups or range(len(self.true)))), level)
        half, reached = self._half_width(level, units, target)
        if not reached:
            warn(
                f"interval {level:g}: held-out slides differ so much that the largest error on the "
                "others does not reach it; that error is used"
            )
        return half

    def _half_width(self, level: float, units: str, target: Target) -> tuple[Array, bool]:
        """Half-width without warnings, and whether the level is reached."""
        check_level(level)
        errors = [
            np.abs(to_units(p, units, target) - _truth(t, units, target))
            for p, t in zip(self.predicted, self.true, strict=True)
        ]
        n = sum(map(len, errors))
        rank = math.ceil((n + 1) * level)
        if rank > n:
            raise BadInput(
                f"interval {level}: {n} held-out spots are too few; use {n / (n + 1):.3f} or less"
            )
        if self.groups is None:
            return np.partition(np.concatenate(errors), rank - 1, axis=0)[rank - 1], True
        groups = [np.concatenate([errors[i] for i in own]) for own in group_members(self.groups)]
        used = level if len(groups) < 2 else _level_that_holds(groups, level)
        return _quantile(groups, used), used < 1.0

    def limits(self, units: str, target: Target) -> tuple[float, float]:
        """Smallest and largest possible value in these units; abundances may be negative."""
        low, high = UNITS[units]
        labels = units == "abundance" or (units == "none" and target.name == "raw")
        if labels and all((part >= 0).all() for part in self.true):
            low = 0.0
        return low, high

    def bounds(
        self, values: Array, level: float, units: str, target: Target
    ) -> tuple[Array, Array]:
        """Lower and upper bounds (N, T) of predictions; see `half_width`."""
        half = self.half_width(level, units, target)
        limits = self.limits(units, target)
        return np.clip(values - half, *limits), np.clip(values + half, *limits)

    @classmethod
    def concatenate(cls, parts: Sequence[Residuals]) -> Residuals:
        """Concatenate folds; each is a group."""
        return cls(
            tuple(p for part in parts for p in part.predicted),
            tuple(t for part in parts for t in part.true),
            tuple(at for at, part in enumerate(parts) for _ in part.true),
        )

    def to_files(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "heldout_predicted": np.concatenate(self.predicted).astype(np.float32),
            "heldout_true": np.concatenate(self.true).astype(np.float32),
            "heldout_sizes": np.array([len(part) for part in self.true], dtype=np.float64),
        }
        if self.groups is not None:
            arrays["heldout_groups"] = np.array(self.groups, dtype=np.float64)
        return arrays

    @classmethod
    def from_files(
        cls, arrays: Mapping[str, NDArray[Any]], n_types: int, width: int
    ) -> Residuals | None:
        """Inverse of `to_files`; None if absent, KeyError or ValueError if inconsistent."""
        if "heldout_sizes" not in arrays:
            return None
        predicted, true = arrays["heldout_predicted"], arrays["heldout_true"]
        ends = np.cumsum(arrays["heldout_sizes"]).astype(int)
        if (predicted.shape, true.shape) != ((ends[-1], width), (ends[-1], n_types)):
            raise ValueError("held-out predictions do not fit the cell types")
        groups = arrays.get("heldout_groups")
        if groups is not None and groups.shape != ends.shape:
            raise ValueError("held-out predictions do not fit their groups")
        predicted_by_slide, true_by_slide = (
            tuple(np.split(values.astype(np.float64), ends[:-1])) for values in (predicted, true)
        )
        numbers = None if groups is None else tuple(int(group) for group in groups)
        return cls(predicted_by_slide, true_by_slide, numbers)


def _truth(abundance: Array, units: str, target: Target) -> Array:
    values = np.asarray(abundance, dtype=np.float64)
    return values if units == "abundance" else to_units(target.forward(values), units, target)


def _warn_of_few(groups: int, level: float) -> None:
    """Warn if no interval could guarantee the level for the next slide."""
    enough = math.ceil(level / (1.0 - level) - 1e-9) if 0.0 < level < 1.0 else 0
    if groups < enough:
        warn(
            f"interval {level:g}: calibrated on {groups} held-out slides (or groups), but {enough} "
            "are needed to guarantee this level on a new one; train on more, or lower the level"
        )


def _quantile(groups: Sequence[Array], level: float) -> Array:
    """Quantiles (T,) of errors, with equal weight for each group."""
    errors = np.concatenate(groups)
    weights = np.concatenate([np.full(len(g), 1 / (len(g) * len(groups))) for g in groups])
    order = np.argsort(errors, axis=0)
    reached = np.cumsum(weights[order], axis=0)
    at = np.minimum((reached < level - 1e-12).sum(axis=0), len(errors) - 1)
    return np.asarray(np.take_along_axis(errors, order, axis=0)[at, np.arange(errors.shape[1])])


def _level_that_holds(groups: Sequence[Array], level: float) -> float:
    """Level at which quantiles of the other groups cover a share `level`, on average over groups.

    A quantile of the others covers a spot once its level exceeds the share of their errors below
    the spot's own; the result is a quantile of these shares.
    """
    below = [np.zeros_like(group) for group in groups]
    for type_ in range(groups[0].shape[1]):
        each = [np.sort(group[:, type_]) for group in groups]
        for at, group in enumerate(groups):
            for other, known in enumerate(each):
                if other != at:
                    share = np.searchsorted(known, group[:, type_]) / len(known)
                    below[at][:, type_] += share / (len(groups) - 1)
    flat = [part.reshape(-1, 1) for part in below]
    return float(_quantile(flat, level)[0])


def coverage(folds: Sequence[Residuals], level: float, units: str, target: Target) -> list[float]:
    """Share of the spots and types of each fold that intervals from the other folds cover.

    The models of the other folds were trained on the slides of this one, so the intervals are
    slightly narrow.
    """
    _warn_of_few(len(folds), level)
    found = []
    for index, fold in enumerate(folds):
        others = Residuals.concatenate([other for at, other in enumerate(folds) if at != index])
        half, _ = others._half_width(level, units, target)
        held = [
            np.abs(to_units(p, units, target) - _truth(t, units, target)) <= half
            for p, t in zip(fold.predicted, fold.true, strict=True)
        ]
        found.append(float(np.concatenate(held).mean()))
    return found
