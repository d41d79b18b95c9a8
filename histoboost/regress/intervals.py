"""Intervals from the residuals of slides that were held out.

A spot's interval is the prediction plus and minus a quantile, type by type, of the absolute errors
on held-out slides. Slides (or groups) are the unit, for the spots of one slide err together: each
counts the same, and the level of the quantile is the one at which intervals from the others hold
the promised share of a slide, on average over the slides that were held out in turn (as jackknife+
and CV+ do for single observations: Barber et al. 2021; for groups: Lee, Barber and Willett 2023).
Single slides lie above and below; `evaluate` reports what each fold held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, warn
from histoboost.regress.heads.base import group_members
from histoboost.regress.targets import Target
from histoboost.regress.units import UNITS, to_units

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Held-out predictions beside the truth, one entry per slide.

    `predicted` (n, width) are as the target has them, each by a model that did not see the slide,
    `true` (n, T) abundances. Slides with the same number in `groups` were held out together. It is
    None in models of 0.1.0, which did not know and whose intervals stay what they were: quantiles
    in which every spot counts alike.
    """

    predicted: tuple[Array, ...]
    true: tuple[Array, ...]
    groups: tuple[int, ...] | None

    def half_width(self, level: float, units: str, target: Target) -> Array:
        """Half the width (T,) of the interval that holds a share `level` of a new slide's spots.

        For `units` see `to_units`; `target` is what the model learned. Warned of is where so few
        slides (or groups) were held out that no interval could guarantee the level for the next
        one, or where even the largest errors of the others do not reach it.
        """
        _warn_of_few(len(group_members(self.groups or range(len(self.true)))), level)
        half, reached = self._half_width(level, units, target)
        if not reached:
            warn(
                f"interval {level:g}: held-out slides differ so much that the largest error on all "
                "others does not reach it; that error is taken"
            )
        return half

    def _half_width(self, level: float, units: str, target: Target) -> tuple[Array, bool]:
        """The same without a word, and whether held-out slides held the level."""
        if not 0.0 < level < 1.0:
            raise BadInput(f"interval {level}: must lie between 0 and 1, such as 0.9")
        errors = [
            np.abs(to_units(p, units, target) - _truth(t, units, target))
            for p, t in zip(self.predicted, self.true, strict=True)
        ]
        n = sum(map(len, errors))
        rank = math.ceil((n + 1) * level)
        if rank > n:
            raise BadInput(
                f"interval {level}: {n} held-out spots are too few; ask for "
                f"{n / (n + 1):.3f} or less"
            )
        if self.groups is None:
            return np.partition(np.concatenate(errors), rank - 1, axis=0)[rank - 1], True
        groups = [np.concatenate([errors[i] for i in own]) for own in group_members(self.groups)]
        used = level if len(groups) < 2 else _level_that_holds(groups, level)
        return _quantile(groups, used), used < 1.0

    def limits(self, units: str, target: Target) -> tuple[float, float]:
        """Smallest and largest value that the truth can have in these units.

        Abundances have no limits by themselves (enrichment scores may be negative); where no
        training spot has a negative one, 0 is the smallest.
        """
        low, high = UNITS[units]
        labels = units == "abundance" or (units == "none" and target.name == "raw")
        if labels and all((part >= 0).all() for part in self.true):
            low = 0.0
        return low, high

    def bounds(
        self, values: Array, level: float, units: str, target: Target
    ) -> tuple[Array, Array]:
        """Lower and upper bounds (N, T) around predictions in these units; see `half_width`."""
        half = self.half_width(level, units, target)
        limits = self.limits(units, target)
        return np.clip(values - half, *limits), np.clip(values + half, *limits)

    @classmethod
    def joined(cls, parts: Sequence[Residuals]) -> Residuals:
        """Those of several folds in one; what a fold held out is a group."""
        return cls(
            tuple(p for part in parts for p in part.predicted),
            tuple(t for part in parts for t in part.true),
            tuple(at for at, part in enumerate(parts) for _ in part.true),
        )

    def to_files(self) -> dict[str, NDArray[Any]]:
        """Arrays for the bundle."""
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
        """Inverse of `to_files`, None where there are none; KeyError or ValueError if broken."""
        if "heldout_sizes" not in arrays:
            return None
        predicted, true = arrays["heldout_predicted"], arrays["heldout_true"]
        ends = np.cumsum(arrays["heldout_sizes"]).astype(int)
        if (predicted.shape, true.shape) != ((ends[-1], width), (ends[-1], n_types)):
            raise ValueError("held-out predictions do not fit the cell types")
        groups = arrays.get("heldout_groups")
        if groups is not None and groups.shape != ends.shape:
            raise ValueError("held-out predictions do not fit their groups")
        slides = (
            tuple(np.split(values.astype(np.float64), ends[:-1])) for values in (predicted, true)
        )
        predicted_of, true_of = slides
        return cls(
            predicted_of, true_of, None if groups is None else tuple(int(group) for group in groups)
        )


def _truth(abundance: Array, units: str, target: Target) -> Array:
    values = np.asarray(abundance, dtype=np.float64)
    return values if units == "abundance" else to_units(target.forward(values), units, target)


def _warn_of_few(groups: int, level: float) -> None:
    """Say where no interval could guarantee the level for the next slide."""
    enough = math.ceil(level / (1.0 - level) - 1e-9) if 0.0 < level < 1.0 else 0
    if groups < enough:
        warn(
            f"interval {level:g}: held-out slides (or groups) are {groups}, and {enough} are "
            "needed to vouch for the next one; this level held on average over those there are"
        )


def _quantile(groups: Sequence[Array], level: float) -> Array:
    """Smallest errors (T,) that a share `level` of every type's lie at or below, groups alike."""
    errors = np.concatenate(groups)
    weights = np.concatenate([np.full(len(g), 1 / (len(g) * len(groups))) for g in groups])
    order = np.argsort(errors, axis=0)
    reached = np.cumsum(weights[order], axis=0)
    at = np.minimum((reached < level - 1e-12).sum(axis=0), len(errors) - 1)
    return np.asarray(np.take_along_axis(errors, order, axis=0)[at, np.arange(errors.shape[1])])


def _level_that_holds(groups: Sequence[Array], level: float) -> float:
    """Level at which quantiles of all other groups hold a share `level`, on average over groups.

    A spot is held by the quantile of the others as soon as its level exceeds the share of their
    errors that lie below the spot's own: the level wanted is a quantile of these shares.
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
    """Share of the spots and types of each fold that its interval holds.

    A fold's interval comes from the residuals of the other folds, whose models did see its
    slides: the residuals themselves are honest, their width is that of slightly better models.

    Parameters
    ----------
    folds : sequence of Residuals
        Held-out predictions, fold by fold; two or more.
    level, units, target
        See `Residuals.half_width`.
    """
    _warn_of_few(len(folds), level)
    found = []
    for index, fold in enumerate(folds):
        others = Residuals.joined([other for at, other in enumerate(folds) if at != index])
        half, _ = others._half_width(level, units, target)
        held = [
            np.abs(to_units(p, units, target) - _truth(t, units, target)) <= half
            for p, t in zip(fold.predicted, fold.true, strict=True)
        ]
        found.append(float(np.concatenate(held).mean()))
    return found
