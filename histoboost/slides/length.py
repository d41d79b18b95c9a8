"""Lengths on slides, in pixels (``64``) or in micrometres (``55um``)."""

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
        """As one writes it: ``64`` or ``55um``."""
        return f"{self.amount:g}" + ("um" if self.unit == "um" else "")

    def on(self, slide: Slide, option: str) -> float:
        """In pixels of a slide, whose scale must be known; `option` gave it, for the message."""
        if self.unit == "px":
            return self.amount
        if slide.um_per_px is None:
            raise BadInput(
                f"slide {slide.name}: its micrometres per pixel are unknown, so {option} {self} "
                f"has no size; give {option} in pixels, or --um-per-px"
            )
        return self.amount / slide.um_per_px


def parse_length(text: object) -> Length | None:
    """``64``, ``"64"``, ``"25.5px"`` or ``"55um"``; None for what is no length."""
    plain = str(text).strip().lower().replace("µ", "u").replace("μ", "u")
    unit = "um" if plain.endswith("um") else "px"
    try:
        amount = float(plain.removesuffix(unit).strip())
    except ValueError:
        return None
    return Length(amount, unit) if 0 < amount < 1e9 else None
