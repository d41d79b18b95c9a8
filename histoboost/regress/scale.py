"""At which resolution and spot pitch a model was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from histoboost.spots import SpotTable, spot_pitch


@dataclass(frozen=True)
class Scale:
    """Resolution and spot pitch of some slides, medians; None where they are not known.

    Attributes
    ----------
    um_per_px : float or None
        Micrometres per pixel.
    pitch_px, pitch_um : float or None
        Distance of neighbouring spots.
    """

    um_per_px: float | None = None
    pitch_px: float | None = None
    pitch_um: float | None = None

    @classmethod
    def of(cls, tables: Sequence[SpotTable]) -> Scale:
        """That of slides with these spots."""
        pitches = [spot_pitch(table.xy) for table in tables]
        pairs = [(table.um_per_px, pitch) for table, pitch in zip(tables, pitches, strict=True)]
        return cls(
            um_per_px=_median([um for um, _ in pairs if um]),
            pitch_px=_median([pitch for _, pitch in pairs if pitch]),
            pitch_um=_median([um * pitch for um, pitch in pairs if um and pitch]),
        )

    def to_json(self) -> dict[str, float]:
        """What is known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> Scale:
        """Inverse of `to_json`; KeyError, TypeError or ValueError where something is off."""
        found = cls(**{str(name): float(value) for name, value in values.items()})
        for part in fields(found):
            value = getattr(found, part.name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{part.name} {value} is not a length")
        return found


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
