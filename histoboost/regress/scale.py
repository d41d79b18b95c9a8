"""Resolution and spot pitch of the training slides, and checks of others against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from histoboost.errors import BadInput, warn
from histoboost.regress.expression import parse_features
from histoboost.spots import SpotTable, spot_pitch

#: Largest ratio of pitches, and of resolutions, between comparable slides.
ALIKE, COARSER = 1.2, 1.25


@dataclass(frozen=True)
class Scale:
    """Median resolution and spot pitch of some slides; None if unknown."""

    um_per_px: float | None = None
    pitch_px: float | None = None
    pitch_um: float | None = None

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> Scale:
        """Inverse of `to_json`; KeyError, TypeError or ValueError if invalid."""
        found = cls(**{str(name): float(value) for name, value in values.items()})
        for part in fields(found):
            value = getattr(found, part.name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{part.name} {value} is not a length")
        return found


def measure_scale(tables: Sequence[SpotTable]) -> Scale:
    """Scale of slides with these spots."""
    pairs = [(table.um_per_px, spot_pitch(table.xy)) for table in tables]
    return Scale(
        um_per_px=_median([um for um, _ in pairs if um]),
        pitch_px=_median([pitch for _, pitch in pairs if pitch]),
        pitch_um=_median([um * pitch for um, pitch in pairs if um and pitch]),
    )


def uses_rings(features: str) -> bool:
    """Whether any term of the feature set is of rings, which need the pitch of training."""
    return any(plain.rings for term in parse_features(features) for plain in term.plain)


def check_scale(
    trained: Scale, table: SpotTable, features: str, recipes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse or warn if spot pitch or resolution of a slide differ from training.

    Pitches are compared in micrometres if both are known, else in pixels. With rings in `features`,
    another pitch is refused, because rings would span other distances; with areas, whose smallest
    is one pitch wide, it is warned about, as are coarser images and patches in pixels, see
    `recipes`, that show another width of tissue.
    """
    own = measure_scale([table])
    unit = "um" if own.pitch_um and trained.pitch_um else "px"
    here, known = (getattr(scale, f"pitch_{unit}") for scale in (own, trained))
    if here and known and max(here / known, known / here) > ALIKE:
        what = (
            f"slide {table.slide}: spots are {here:.3g} {unit} apart, those of the training slides "
            f"{known:.3g} {unit}"
        )
        if uses_rings(features):
            raise BadInput(
                f"{what}, so rings would span other distances; histoboost map spaces spots as in "
                f"training, as does featurize --pitch {known:.3g}{unit} on a slide without spots; "
                "or train without rings"
            )
        if any(plain.area for term in parse_features(features) for plain in term.plain):
            warn(
                f"{what}, so the smallest areas are other distances: expect slightly worse "
                "predictions; histoboost map without --pitch spaces spots as in training"
            )
    # Recipes record the resolution that a slide was rescaled to before patches were cut.
    cut_at = [fields.get("slide_scale", {}).get("um_per_px") for fields in recipes.values()]
    um = next(filter(None, cut_at), own.um_per_px)
    if um is None or trained.um_per_px is None:
        return
    what = (
        f"slide {table.slide}: {um:.3g} um per px, the training slides have {trained.um_per_px:.3g}"
    )
    ratio = um / trained.um_per_px
    in_pixels = [name for name, fields in recipes.items() if "patch_px" in fields]
    if in_pixels and max(ratio, 1 / ratio) > COARSER:
        warn(
            f"{what}, so patches of {in_pixels[0]} show another width of tissue; do not rely on "
            "its predictions; histoboost map rescales finer images to the training resolution, "
            "and --patch in um is independent of resolution"
        )
    elif ratio > COARSER:
        warn(f"{what}: it is coarser, and details that the model uses are missing")


def compared_in(trained: Scale, tables: Sequence[SpotTable]) -> str | None:
    """Note that scales are compared in pixels, or cannot be compared; None if neither."""
    if trained.pitch_px is None:
        return "The model does not store the resolution and spot pitch of its training slides."
    unknown = [table.slide for table in tables if table.um_per_px is None]
    if trained.um_per_px is None:
        unknown = ["the training slides", *unknown]
    if not unknown:
        return None
    more = [f"{len(unknown) - 3} more"] if len(unknown) > 3 else []
    *names, last = [*unknown[:3], *more]
    which = f"{', '.join(names)} and {last}" if names else last
    return f"Spot pitches were compared in pixels, because um per px is unknown for {which}."


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
