"""Split-conformal intervals from the residuals of slides that were held out.

A spot's interval is the prediction plus and minus a quantile, type by type, of the absolute errors
on held-out slides. It holds the promised share of spots of a new slide as far as slides are alike;
spots within a slide are not independent, so `evaluate` reports the share that it really held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.regress.targets import UNITS, Target, to_units

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Held-out predictions beside the truth, one entry per slide.

    Attributes
    ----------
    predicted : tuple of ndarray of shape (n, width of the target)
        As the target has them, each by a model that did not see the slide.
    true : tuple of ndarray of shape (n, T)
        Abundances.
    """

    predicted: tuple[Array, ...]
    true: tuple[Array, ...]

    def half_width(self, level: float, units: str, target: Target) -> Array:
        """Half the width (T,) of the interval, in these units.

        Parameters
        ----------
        level : float
            Share of spots that the interval is to hold, between 0 and 1.
        units : str
            See `to_units`.
        target : Target
            What the model learned.

        Raises
        ------
        HistoboostError
            If `level` is not between 0 and 1, or there are too few spots for it.
        """
        if not 0.0 < level < 1.0:
            raise BadInput(f"interval {level}: must lie between 0 and 1, such as 0.9")
        errors = np.concatenate(
            [
                np.abs(to_units(p, units, target) - _truth(t, units, target))
                for p, t in zip(self.predicted, self.true, strict=True)
            ]
        )
        n = len(errors)
        rank = int(np.ceil((n + 1) * level))  # the finite-sample quantile of split conformal
        if rank > n:
            raise BadInput(
                f"interval {level}: {n} held-out spots are too few; ask for "
                f"{n / (n + 1):.3f} or less"
            )
        return np.asarray(np.partition(errors, rank - 1, axis=0)[rank - 1])

    def limits(self, units: str, target: Target) -> tuple[float, float]:
        """Smallest and largest value that the truth can have in these units.

        Abundances have no limits by themselves (enrichment scores may be negative); where no
        training spot has a negative one, 0 is the smallest.

        Parameters
        ----------
        units, target
            See `half_width`.
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
        """Those of several folds in one."""
        return cls(
            tuple(p for part in parts for p in part.predicted),
            tuple(t for part in parts for t in part.true),
        )

    def to_files(self) -> dict[str, NDArray[Any]]:
        """Arrays for the bundle."""
        return {
            "heldout_predicted": np.concatenate(self.predicted).astype(np.float32),
            "heldout_true": np.concatenate(self.true).astype(np.float32),
            "heldout_sizes": np.array([len(part) for part in self.true], dtype=np.float64),
        }

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
        split = [
            tuple(np.split(values.astype(np.float64), ends[:-1])) for values in (predicted, true)
        ]
        return cls(*split)


def _truth(abundance: Array, units: str, target: Target) -> Array:
    values = np.asarray(abundance, dtype=np.float64)
    return values if units == "abundance" else to_units(target.forward(values), units, target)


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
    found = []
    for index, fold in enumerate(folds):
        others = Residuals.joined([other for at, other in enumerate(folds) if at != index])
        half = others.half_width(level, units, target)
        held = [
            np.abs(to_units(p, units, target) - _truth(t, units, target)) <= half
            for p, t in zip(fold.predicted, fold.true, strict=True)
        ]
        found.append(float(np.concatenate(held).mean()))
    return found
