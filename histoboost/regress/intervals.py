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
from histoboost.regress.targets import LIMITS, Target, normalize

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Held-out predictions beside the truth, one entry per slide.

    Attributes
    ----------
    predicted : tuple of ndarray of shape (n, T)
        In units of the target, each by a model that did not see the slide.
    true : tuple of ndarray of shape (n, T)
        Abundances.
    """

    predicted: tuple[Array, ...]
    true: tuple[Array, ...]

    def half_width(self, level: float, how: str, target: Target) -> Array:
        """Half the width (T,) of the interval, in the units that `how` names.

        Parameters
        ----------
        level : float
            Share of spots that the interval is to hold, between 0 and 1.
        how : str
            A normalisation, see `normalize`.
        target : Target
            What the model learned.

        Raises
        ------
        HistoboostError
            If `level` is not between 0 and 1, or there are too few spots for it.
        """
        check_level(level)
        errors = np.concatenate(
            [
                np.abs(normalize(p, how, target) - _truth(t, how, target))
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

    def limits(self, how: str, target: Target) -> tuple[float, float]:
        """Smallest and largest value that the truth can have in the units that `how` names.

        Abundances have no limits by themselves (enrichment scores may be negative); where no
        training spot has a negative one, 0 is the smallest.

        Parameters
        ----------
        how, target
            See `half_width`.
        """
        low, high = LIMITS[how]
        labels = how == "abundance" or (how == "none" and target.name == "raw")
        if labels and all((part >= 0).all() for part in self.true):
            low = 0.0
        return low, high

    def to_files(self) -> dict[str, NDArray[Any]]:
        """Arrays for the bundle."""
        return {
            "heldout_predicted": np.concatenate(self.predicted).astype(np.float32),
            "heldout_true": np.concatenate(self.true).astype(np.float32),
            "heldout_sizes": np.array([len(part) for part in self.true], dtype=np.float64),
        }

    @classmethod
    def from_files(cls, arrays: Mapping[str, NDArray[Any]], n_types: int) -> Residuals | None:
        """Inverse of `to_files`, None where there are none; KeyError or ValueError if broken."""
        if "heldout_sizes" not in arrays:
            return None
        predicted, true = arrays["heldout_predicted"], arrays["heldout_true"]
        ends = np.cumsum(arrays["heldout_sizes"]).astype(int)
        if not predicted.shape == true.shape == (ends[-1], n_types):
            raise ValueError("held-out predictions do not fit the cell types")
        split = [
            tuple(np.split(values.astype(np.float64), ends[:-1])) for values in (predicted, true)
        ]
        return cls(*split)


def check_level(level: float) -> None:
    """Refuse a level that is not between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise BadInput(f"interval {level}: must lie between 0 and 1, such as 0.9")


def _truth(abundance: Array, how: str, target: Target) -> Array:
    values = np.asarray(abundance, dtype=np.float64)
    return values if how == "abundance" else normalize(target.forward(values), how, target)


def coverage(folds: Sequence[Residuals], level: float, how: str, target: Target) -> list[float]:
    """Share of the spots and types of each fold that its interval holds.

    A fold's interval comes from the residuals of the other folds, whose models did see its
    slides: the residuals themselves are honest, their width is that of slightly better models.

    Parameters
    ----------
    folds : sequence of Residuals
        Held-out predictions, fold by fold; two or more.
    level, how, target
        See `Residuals.half_width`.
    """
    found = []
    for index, fold in enumerate(folds):
        others = [other for at, other in enumerate(folds) if at != index]
        pooled = Residuals(
            tuple(p for other in others for p in other.predicted),
            tuple(t for other in others for t in other.true),
        )
        half = pooled.half_width(level, how, target)
        held = [
            np.abs(normalize(p, how, target) - _truth(t, how, target)) <= half
            for p, t in zip(fold.predicted, fold.true, strict=True)
        ]
        found.append(float(np.concatenate(held).mean()))
    return found
