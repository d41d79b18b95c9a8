"""Lengths on slides, in pixels (``64``) or micrometres (``55um``)."""

from __future__ import annotations

from dataclasses import dataclass

from histoboost.errors import BadInput
from histoboost.slides.slide import Slide


@dataclass(frozen=True)
class Length:
    """A length on a slide, in ``"px"`` or ``"um"``."""

    amount: float
    unit: str = "px"

    def __str__(self) -> str:
        """``64`` or ``55um``."""
        return f"{self.amount:g}" + ("um" if self.unit == "um" else "")

    def on(self, slide: Slide, option: str) -> float:
        """Convert to pixels of a slide; errors name the `option` that gave the length."""
        if self.unit == "px":
            return self.amount
        if slide.um_per_px is None:
            raise BadInput(
                f"slide {slide.name}: its micrometres per pixel are unknown, so {option} {self} "
                f"has no size; give {option} in pixels, or --um-per-px"
            )
        return self.amount / slide.um_per_px


def parse_length(text: object) -> Length | None:
    """Parse ``64``, ``"25.5px"`` or ``"55um"``; None if `text` is not a length."""
    plain = str(text).strip().lower().replace("µ", "u").replace("μ", "u")
    unit = "um" if plain.endswith("um") else "px"
    try:
        amount = float(plain.removesuffix(unit).strip())
    except ValueError:
        return None
    return Length(amount, unit) if 0 < amount < 1e9 else None
