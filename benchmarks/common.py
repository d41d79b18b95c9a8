"""Helpers shared by the benchmarks."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.slide import Slide


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Parser that shows a script's docstring as it is written."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def names(text: str) -> list[str]:
    """Parse a comma-separated option."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """Parse a comma-separated option of integers."""
    return [int(number) for number in text.split(",")]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)}


def report(figures: dict[str, Any], path: Path | None) -> None:
    """Print figures as JSON and also write them to `path`, if given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


def read_pixels(slide: Slide) -> NDArray[np.uint8]:
    """Read the whole image of a slide, (H, W, 3)."""
    return slide.image.read_rows(0, slide.image.shape[0])
