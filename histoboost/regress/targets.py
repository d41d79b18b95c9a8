"""Targets: transforms of abundances that models learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from histoboost.errors import BadInput, warn
from histoboost.regress.joint import ROUNDING, Ranks, joint_parts, split, to_joint, to_shares

TARGETS = ("joint", "rank", "log", "raw", "share")

#: The log target is ``log(abundance + LOG_FLOOR * mean training abundance)``: below a few percent
#: of the mean, deconvolution estimates are noise whose logarithm would swamp the rest.
LOG_FLOOR = 0.03


@dataclass(frozen=True)
class Target:
    """A transform of abundances, fitted on the training spots.

    ``"joint"``: order, map, share and total at once, see `histoboost.regress.joint`; ``"rank"``:
    ranks across cell types within each spot, scaled to 0..1; ``"log"``: logarithm of the abundance
    (negative: 0) plus `floor`; ``"raw"``; ``"share"``: abundance over the spot's sum. `profile`,
    the mean k-th smallest abundance of training spots, converts ranks to abundances, and `total`,
    their mean sum, shares; `totals_vary`: sums differ between training spots.
    """

    name: str
    floor: float
    profile: tuple[float, ...]
    total: float = 1.0
    totals_vary: bool = False

    def width(self, types: int) -> int:
        """Number of target columns for so many cell types."""
        return 3 * types + 1 if self.name == "joint" else types

    def parts(self, types: int) -> list[slice]:
        """Columns whose penalties are chosen separately."""
        if self.name == "joint":
            return joint_parts(self.width(types))
        return [slice(0, types)]

    def forward(self, abundance: NDArray[Any], ranks: Ranks | None = None) -> NDArray[np.float64]:
        """Transform abundances (N, T) of one slide, with their ranks if known, (N, `width(T)`)."""
        values = np.asarray(abundance, dtype=np.float64)
        if self.name == "joint":
            return to_joint(values, self.total, ranks).columns()
        if self.name == "share":
            return to_shares(values)
        if self.name == "rank":
            found: NDArray[np.float64] = rankdata(values, axis=1) - 1.0
            return np.asarray(found / max(values.shape[1] - 1, 1))
        if self.name == "log":
            return np.asarray(np.log(np.maximum(values, 0.0) + self.floor))
        return values

    def to_abundance(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert predictions (N, `width(T)`) to abundances (N, T).

        Totals that vary between training spots but were not learned are replaced by their mean,
        with a warning.
        """
        if self.name == "joint":
            joint = split(predicted)
            if self.totals_vary and len(predicted) > 1 and np.ptp(joint.total) <= ROUNDING:
                warn(
                    "abundance: the spots' totals could not be predicted on held-out slides; "
                    "abundances are shares times the mean total of the training spots"
                )
            return to_shares(joint.share) * self.total * np.exp(joint.total)
        if self.name == "share":
            if self.totals_vary:
                warn(
                    "abundance: target share learns no totals; abundances are shares times the "
                    "mean total of the training spots; --target joint learns them"
                )
            return to_shares(predicted) * self.total
        if self.name == "rank":
            grid = np.linspace(0, 1, len(self.profile))
            return np.asarray(np.interp(predicted, grid, self.profile))
        if self.name == "log":
            above = np.exp(np.minimum(predicted, 700.0)) - self.floor
            return np.asarray(np.maximum(above, 0.0))
        return predicted

    def to_json(self) -> dict[str, Any]:
        kept = {"name": self.name, "floor": self.floor, "profile": list(self.profile)}
        if self.name in ("joint", "share"):
            kept |= {"total": self.total, "totals_vary": self.totals_vary}
        return kept

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Target:
        """Inverse of `to_json`; KeyError, TypeError or ValueError if invalid."""
        profile = tuple(float(v) for v in fields["profile"])
        totals = float(fields.get("total", 1.0)), bool(fields.get("totals_vary", False))
        target = cls(str(fields["name"]), float(fields["floor"]), profile, *totals)
        _check_name(target.name)
        return target


def fit_target(name: str, abundance: NDArray[Any]) -> Target:
    """Fit the target `name` on the abundances (N, T) of the training spots."""
    _check_name(name)
    values = np.asarray(abundance, dtype=np.float64)
    if not np.isfinite(values).all():
        raise BadInput("abundances: some are not finite; remove those spots first")
    if name in ("joint", "share") and (values < 0).any():
        warn(
            "abundances: some are negative; shares and amounts count them as 0, ranks and maps "
            "use them unchanged"
        )
    floor = LOG_FLOOR * float(np.maximum(values, 0.0).mean())
    profile = tuple(float(v) for v in np.sort(values, axis=1).mean(axis=0))
    floor = floor if floor > 0 else 1.0
    if name not in ("joint", "share"):
        return Target(name, floor, profile)
    totals = np.maximum(values, 0.0).sum(axis=1)
    mean = float(totals.mean()) or 1.0
    return Target(name, floor, profile, mean, bool(np.ptp(totals) > 1e-4 * mean))


def _check_name(name: str) -> None:
    if name not in TARGETS:
        raise BadInput(f"target {name!r}: unknown; choose one of {', '.join(TARGETS)}")
