"""At which resolution and spot pitch a model was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from histoboost.errors import BadInput, warn
from histoboost.regress.expression import parse_features
from histoboost.spots import SpotTable, spot_pitch

#: Ratio of pitches, and of resolutions, up to which slides are alike.
ALIKE, COARSER = 1.2, 1.25


@dataclass(frozen=True)
class Scale:
    """Resolution and spot pitch of some slides, medians; None where they are not known."""

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


def check_scale(
    trained: Scale, table: SpotTable, features: str, recipes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse, or warn of, a slide on another pitch or at another resolution than in training.

    Micrometres are compared where both sides know theirs, else pixels.

    Parameters
    ----------
    trained : Scale
        That of the training slides; what it does not know is not compared.
    table : SpotTable
        The slide.
    features : str
        Feature-set expression of the model.
    recipes : mapping
        How its embeddings were made, those of the slide.

    Raises
    ------
    HistoboostError
        If the pitch is another and the model averages over rings: these would be other distances.

    Warns
    -----
    HistoboostWarning
        If the pitch is another and the model averages over areas, whose smallest is one pitch
        wide; if the image is coarser, or patches in pixels show another width of tissue.
    """
    own = Scale.of([table])
    unit = "um" if own.pitch_um and trained.pitch_um else "px"
    here, known = (getattr(scale, f"pitch_{unit}") for scale in (own, trained))
    terms = [plain for term in parse_features(features) for plain in term.plain]
    if here and known and max(here / known, known / here) > ALIKE:
        what = (
            f"slide {table.slide}: spots are {here:.3g} {unit} apart, those of the training slides "
            f"{known:.3g} {unit}"
        )
        if any(term.rings for term in terms):
            raise BadInput(
                f"{what}, so rings would be other distances; histoboost map lays spots as in "
                f"training, featurize --pitch {known:.3g}{unit} on a slide without spots does so, "
                "too; or train without rings"
            )
        if any(term.area for term in terms):
            warn(
                f"{what}, so the smallest areas are other distances: expect slightly worse "
                "predictions; histoboost map lays spots as in training"
            )
    # A slide that was brought to another resolution before patches were cut says so in its recipes.
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
            "its predictions; histoboost map brings finer images to the resolution of training, "
            "and --patch in um holds for all resolutions"
        )
    elif ratio > COARSER:
        warn(f"{what}: it is coarser, and detail that the model looks for is missing")


def compared_in(trained: Scale, tables: Sequence[SpotTable]) -> str | None:
    """What is to be said of slides whose scale is compared in pixels, or cannot be compared."""
    if trained.pitch_px is None:
        return "The model does not know the resolution and spot pitch of its training slides."
    unknown = [table.slide for table in tables if table.um_per_px is None]
    if trained.um_per_px is None:
        unknown = ["the training slides", *unknown]
    if not unknown:
        return None
    more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    return (
        f"Spot pitches were compared in pixels: um per px are unknown for "
        f"{', '.join(unknown[:3])}{more}."
    )


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
