"""Slides that cover only part of a section.

Standardising embeddings within the slide removes differences of stain and scanner. A piece of a
section, however, also has another mean because its tissue differs, and its own statistics would
remove that signal. So the mean of the whole section is estimated from the piece and the training
sections (empirical Bayes, with a finite population correction, so that a whole section keeps its
own), and neighbourhood means, which a piece mostly lacks, are estimated from the spot itself.
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

#: Area from which a slide counts as a whole section, relative to the smallest training slide.
WHOLE = 0.75
#: Effective number of independent spots of a piece, whose spots are neighbours and of few kinds of
#: tissue; higher in proportion to the area per spot.
EFFECTIVE_SPOTS = 5.0
#: Prior for the variance between section means, relative to that within sections (.02 to .09 on mob
#: and her2st), and its weight in sections.
BETWEEN, PRIOR_SECTIONS = 0.05, 2.0
#: Number of spots and relative variance below which a piece is warned about.
FEW_SPOTS, LITTLE_VARIETY = 20, 0.5


@dataclass(frozen=True, eq=False)
class Sections:
    """Statistics of the training sections.

    `mean` and `within` (F,) are the averages over slides of column means and variances, `between`
    (F,) the variance of the means. `px` and, if known, `um` are the area of the smallest section,
    in pixels and micrometres squared; `spots` is its number of spots.
    """

    mean: Matrix
    within: Matrix
    between: Matrix
    px: float
    um: float | None
    spots: int

    def coverage(self, table: SpotTable) -> float:
        """Fraction of a section that the spots cover (0 to 1), by area."""
        return min(1.0, self._relative_area(table) / WHOLE)

    def _relative_area(self, table: SpotTable) -> float:
        """Area of the spots relative to the smallest section."""
        area, whole = _area(table), self.px
        if self.um is not None and table.um_per_px is not None:
            area, whole = area * table.um_per_px**2, self.um
        return area / whole if whole > 0 else 1.0

    def adjust(
        self,
        values: Matrix,
        moments: Matrix,
        table: SpotTable,
        columns: Sequence[Columns],
        similarities: Similarities | None,
    ) -> Matrix:
        """Estimate the features (N, F) that the spots would have within the whole section.

        `values` are standardised within the slide, `moments` (2, F) its means and variances.
        `similarities` estimate the neighbourhood means among the `columns` from the spots. Warn if
        the piece is small or uniform.
        """
        part = self.coverage(table)
        if part == 1.0:
            return values
        own, variance = moments
        self._warn(table, part, variance, columns)
        spacing = max(1.0, self._relative_area(table) * self.spots / len(table))
        error = self.within * (1 - part) / min(EFFECTIVE_SPOTS * spacing, len(table))
        weight = self.between / (self.between + error + EPSILON)
        shift = (1 - weight) * (own - self.mean)
        mixed = part * variance + (1 - part) * self.within
        adjusted = values * np.sqrt(variance + EPSILON) + shift
        adjusted = np.clip(adjusted / np.sqrt(mixed + EPSILON), -CLIP, CLIP).astype(np.float32)
        around = _select(columns, len(own), around=True)
        known = ~around
        if similarities is not None and around.any() and known.any():
            estimated = np.clip(similarities.complete(adjusted, known), -CLIP, CLIP)
            adjusted[:, around] = part**2 * adjusted[:, around] + (1 - part**2) * estimated
        return np.ascontiguousarray(adjusted)

    def _warn(
        self, table: SpotTable, part: float, variance: Matrix, columns: Sequence[Columns]
    ) -> None:
        spot = _select(columns, len(variance), around=False) & (self.within > EPSILON)
        variety = float(np.median(variance[spot] / self.within[spot])) if spot.any() else 1.0
        reasons = []
        if len(table) < FEW_SPOTS:
            reasons.append(f"it has {len(table)} spot{'s' if len(table) > 1 else ''}")
        if part < 0.5:
            reasons.append(f"its spots cover {part:.0%} of a training section")
        if variety < LITTLE_VARIETY:
            reasons.append(f"its patches vary {variety:.0%} as much as those of a section")
        if reasons:
            warn(
                f"slide {table.slide}: covers only part of a section ({', '.join(reasons)}); stain "
                "and neighbourhood statistics are estimated from the training slides, so its "
                "predictions are less certain"
            )

    def to_files(self) -> tuple[dict[str, float], dict[str, Matrix]]:
        arrays = {f"sections-{n}": getattr(self, n) for n in ("mean", "within", "between")}
        fields = {"px": self.px, "spots": self.spots}
        return fields | ({} if self.um is None else {"um": self.um}), arrays

    @classmethod
    def from_files(
        cls, fields: Mapping[str, float] | None, arrays: Mapping[str, NDArray[Any]], width: int
    ) -> Sections | None:
        """Inverse of `to_files`; None without `fields`, KeyError or ValueError if inconsistent."""
        if fields is None:
            return None
        found = {name: arrays[f"sections-{name}"] for name in ("mean", "within", "between")}
        if any(array.shape != (width,) for array in found.values()):
            raise ValueError("what is kept of the training sections does not fit the features")
        um, spots = fields.get("um"), int(fields["spots"])
        return cls(
            **found, px=float(fields["px"]), um=None if um is None else float(um), spots=spots
        )


def fit_sections(moments: NDArray[np.float32], spots: Sequence[SpotTable]) -> Sections:
    """Statistics of training slides with these column means and variances (slides, 2, F)."""
    mean, within = moments.mean(axis=0, dtype=np.float64)
    squares = np.square(moments[:, 0] - mean).sum(axis=0)
    between = (squares + PRIOR_SECTIONS * BETWEEN * within) / (len(spots) - 1 + PRIOR_SECTIONS)
    areas = [_area(table) for table in spots]
    um = [a * t.um_per_px**2 for a, t in zip(areas, spots, strict=True) if t.um_per_px is not None]
    return Sections(
        mean.astype(np.float32),
        within.astype(np.float32),
        between.astype(np.float32),
        px=min(areas),
        um=min(um) if len(um) == len(spots) else None,
        spots=len(spots[int(np.argmin(areas))]),
    )


def _area(table: SpotTable) -> float:
    """Area of a slide's spots in pixels squared; 0 for one spot."""
    return len(table) * (spot_pitch(table.xy) or 0.0) ** 2


def _select(columns: Sequence[Columns], width: int, *, around: bool) -> NDArray[np.bool_]:
    """Mask (F,) of the embedding columns that are neighbourhood means, or the spot's own."""
    selected = np.zeros(width, bool)
    for each in columns:
        if each.term.name != COORDS and bool(each.term.around) == around:
            selected[each.start : each.stop] = True
    return selected
