"""Slides that are only a piece of a section.

Embeddings are standardised within the slide, which takes away its stain and scanner, and with a
whole section nothing else. A piece of it has another mean because it is other tissue: its own
statistics would take away what is to be recognised. So the mean of the section that a piece is of
is estimated from both the piece and the training sections (empirical Bayes, with a correction for
a finite population, so that a whole section is what it is), and neighbourhoods, which a piece has
hardly, are told by the spot itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.regress.expression import COORDS
from histoboost.regress.features import CLIP, EPSILON
from histoboost.regress.heads.base import Similarities
from histoboost.regress.heads.blocks import Matrix
from histoboost.regress.layout import Columns
from histoboost.spots import SpotTable, spot_pitch

#: Area of a whole section, as a share of the smallest training slide's.
WHOLE = 0.75
#: Independent spots that a piece is worth whose spots are neighbours, and of few kinds of tissue;
#: more in proportion to the area of a spot where they lie farther apart.
WORTH = 5.0
#: Variance of the sections' means about each other, as a share of that within a section, that is
#: assumed besides what is seen, and how many sections' worth of doubt that is (.02 to .09 on mob
#: and her2st).
BETWEEN, DOUBT = 0.05, 2.0
#: Below so many spots, and so much of a section's variance, a piece is warned of.
FEW_SPOTS, LITTLE_VARIETY = 20, 0.5


@dataclass(frozen=True, eq=False)
class Sections:
    """What is known of the sections that a model was trained on.

    Attributes
    ----------
    mean, within, between : ndarray of shape (F,), float32
        Of every column: mean over the slides of their means and of their variances, and how much
        the means of slides vary.
    px, um : float or None
        Area of the smallest, in pixels and, where known, in micrometres, squared.
    spots : int
        How many spots it has.
    """

    mean: Matrix
    within: Matrix
    between: Matrix
    px: float
    um: float | None
    spots: int

    @classmethod
    def of(cls, moments: NDArray[np.float32], spots: Sequence[SpotTable]) -> Sections:
        """Of training slides, given means and variances of their columns (slides, 2, F)."""
        mean, within = moments.mean(axis=0, dtype=np.float64)
        apart = np.square(moments[:, 0] - mean).sum(axis=0)
        between = (apart + DOUBT * BETWEEN * within) / (len(spots) - 1 + DOUBT)
        um = [table.um_per_px for table in spots]
        areas = [_area(table) for table in spots]
        known = [a * u**2 for a, u in zip(areas, um, strict=True) if u is not None]
        return cls(
            mean.astype(np.float32),
            within.astype(np.float32),
            between.astype(np.float32),
            px=min(areas),
            um=min(known) if len(known) == len(spots) else None,
            spots=len(spots[int(np.argmin(areas))]),
        )

    def presence(self, table: SpotTable) -> float:
        """How much of a section a slide is, 0 to 1, by the area that its spots take."""
        return min(1.0, self._share(table) / WHOLE)

    def _share(self, table: SpotTable) -> float:
        """Area of the spots over that of the smallest section."""
        area, whole = _area(table), self.px
        if self.um is not None and table.um_per_px is not None:
            area, whole = area * table.um_per_px**2, self.um
        return area / whole if whole > 0 else 1.0

    def place(
        self,
        values: Matrix,
        moments: Matrix,
        table: SpotTable,
        columns: Sequence[Columns],
        similarities: Similarities | None,
    ) -> Matrix:
        """Features of a slide as they would be, were its whole section there.

        Parameters
        ----------
        values : ndarray of shape (N, F), float32
            Standardised within the slide; returned as they are where it is a whole section.
        moments : ndarray of shape (2, F), float32
            Mean and variance of every column within the slide.
        table : SpotTable
            Its spots.
        columns : sequence of Columns
            Which columns are means over a neighbourhood.
        similarities : Similarities, optional
            What tells these means by the spot itself.

        Warns
        -----
        HistoboostWarning
            If less than half a section is there, spots are few, or they are all of one kind.
        """
        part = self.presence(table)
        if part == 1.0:
            return values
        own, variance = moments
        self._warn(table, part, variance, columns)
        apart = max(1.0, self._share(table) * self.spots / len(table))
        doubt = self.within * (1 - part) / min(WORTH * apart, len(table))
        weight = self.between / (self.between + doubt + EPSILON)
        shift = (1 - weight) * (own - self.mean)
        mixed = part * variance + (1 - part) * self.within
        placed = values * np.sqrt(variance + EPSILON) + shift
        placed = np.clip(placed / np.sqrt(mixed + EPSILON), -CLIP, CLIP).astype(np.float32)
        around = _chosen(columns, len(own), around=True)
        known = ~around
        if similarities is not None and around.any() and known.any():
            told = np.clip(similarities.complete(placed, known), -CLIP, CLIP)
            placed[:, around] = part**2 * placed[:, around] + (1 - part**2) * told
        return np.ascontiguousarray(placed)

    def _warn(
        self, table: SpotTable, part: float, variance: Matrix, columns: Sequence[Columns]
    ) -> None:
        itself = _chosen(columns, len(variance), around=False) & (self.within > EPSILON)
        variety = float(np.median(variance[itself] / self.within[itself])) if itself.any() else 1.0
        reasons = []
        if len(table) < FEW_SPOTS:
            reasons.append(f"it has {len(table)} spot{'s' if len(table) > 1 else ''}")
        if part < 0.5:
            reasons.append(f"its spots take {part:.0%} of a training section")
        if variety < LITTLE_VARIETY:
            reasons.append(f"its patches vary {variety:.0%} as much as those of a section")
        if reasons:
            warn(
                f"slide {table.slide}: is a piece ({', '.join(reasons)}); stain and neighbourhood "
                "are guessed from the training slides, and its predictions are less sure"
            )

    def to_files(self) -> tuple[dict[str, float], dict[str, Matrix]]:
        """Areas for the document and arrays for the bundle."""
        arrays = {f"sections-{n}": getattr(self, n) for n in ("mean", "within", "between")}
        fields = {"px": self.px, "spots": self.spots}
        return fields | ({} if self.um is None else {"um": self.um}), arrays

    @classmethod
    def from_files(
        cls, fields: Mapping[str, float] | None, arrays: Mapping[str, NDArray[Any]], width: int
    ) -> Sections | None:
        """Inverse of `to_files`, None where there is nothing; KeyError or ValueError if broken."""
        if fields is None:
            return None
        found = {name: arrays[f"sections-{name}"] for name in ("mean", "within", "between")}
        if any(array.shape != (width,) for array in found.values()):
            raise ValueError("what is kept of the training sections does not fit the features")
        um, spots = fields.get("um"), int(fields["spots"])
        px, um = float(fields["px"]), None if um is None else float(um)
        return cls(found["mean"], found["within"], found["between"], px, um, spots)


def _area(table: SpotTable) -> float:
    """That the spots of a slide take, in pixels squared; 0 for one spot."""
    return len(table) * (spot_pitch(table.xy) or 0.0) ** 2


def _chosen(columns: Sequence[Columns], width: int, *, around: bool) -> NDArray[np.bool_]:
    """Which columns (F,) of embeddings are means over a neighbourhood, or the spot's own."""
    chosen = np.zeros(width, bool)
    for each in columns:
        if each.term.name != COORDS and bool(each.term.around) == around:
            chosen[each.start : each.stop] = True
    return chosen
