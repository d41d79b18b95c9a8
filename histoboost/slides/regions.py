"""Annotated regions exported from QuPath (GeoJSON, full-resolution pixels)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, warn
from histoboost.slides.slide import Slide

#: Regions that cover a smaller fraction of the slide give a warning.
LEAST_SHARE = 0.01

_REMEDY = "export annotations in QuPath with File > Export objects as GeoJSON"


@dataclass(frozen=True, eq=False)
class Region:
    """One region with its name and class, such as ``Tumor`` (may be empty).

    `rings` are closed outlines (K, 2) in pixels, including those of holes: a point is inside if it
    lies in an odd number of them.
    """

    name: str
    label: str
    rings: tuple[NDArray[np.float64], ...]

    def contains(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each point `xy`, (N, 2) in pixels, lies inside."""
        from matplotlib.path import Path as Outline

        inside = np.zeros(len(xy), dtype=bool)
        for ring in self.rings:
            inside ^= Outline(ring).contains_points(xy)
        return inside

    @property
    def area(self) -> float:
        """Area in square pixels of what `contains` accepts; outlines may cross themselves."""
        ends = [np.stack([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in self.rings]
        edges = np.concatenate(ends)
        edges = np.take_along_axis(edges, edges[..., 1:].argsort(axis=1), axis=1)
        (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
        area = 0.0
        for low, high in pairwise(np.unique(edges[..., 1])):
            own = (y0 <= low) & (y1 >= high)
            slope = (x1[own] - x0[own]) / (y1[own] - y0[own])
            sides = x0[own] + slope * (np.array([[low], [high]]) - y0[own])
            area += (high - low) * _mean_width(*sides)
        return float(area)


def read_regions(path: str | Path) -> list[Region]:
    """Read the polygons of a GeoJSON file: a feature collection, features or one geometry."""
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        features = document if isinstance(document, list) else document.get("features", [document])
        regions = [
            _region(feature, number)
            for number, feature in enumerate(features, start=1)
            if _geometry(feature)["type"] in ("Polygon", "MultiPolygon")
        ]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}; give a GeoJSON file") from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as GeoJSON; {_REMEDY}") from error
    if not regions:
        raise BadInput(f"{path}: contains no polygon; {_REMEDY}")
    return regions


def check_on_slide(path: str | Path, regions: Sequence[Region], slide: Slide) -> None:
    """Refuse regions that all miss a slide; warn if their unit may be micrometres."""
    height, width = slide.image.shape
    um = slide.um_per_px
    unit = f"; divide micrometres by {um:.3g}" if um else " at full resolution"
    rings = [ring for region in regions for ring in region.rings]
    low, high = ([edge(ring, axis=0) for ring in rings] for edge in (np.min, np.max))
    on = (np.array(high) > 0).all(axis=1) & (np.array(low) < (width, height)).all(axis=1)
    if not on.any():
        raise BadInput(
            f"{path}: no region lies on slide {slide.name}, {width} x {height} px; were they drawn "
            f"on it? Give pixels{unit}"
        )
    share = sum(region.area for region in regions) / (height * width)
    if share < LEAST_SHARE:
        warn(
            f"{path}: its regions cover {share:.2%} of slide {slide.name}, {width} x {height} px; "
            f"coordinates are taken to be pixels{unit}"
        )


def _geometry(feature: dict[str, Any]) -> dict[str, Any]:
    geometry: dict[str, Any] = feature.get("geometry", feature) or {"type": None}
    return geometry


def _region(feature: dict[str, Any], number: int) -> Region:
    geometry = _geometry(feature)
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    rings = tuple(np.array(ring, dtype=np.float64)[:, :2] for part in polygons for ring in part)
    if not rings or any(len(ring) < 3 or not np.isfinite(ring).all() for ring in rings):
        raise ValueError("not an outline")
    properties = feature.get("properties") or {}
    label = properties.get("classification") or {}
    if isinstance(label, dict):
        label = label.get("name") or ": ".join(label.get("names", []))
    return Region(properties.get("name") or label or f"region {number}", str(label), rings)


def _mean_width(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Mean width between odd and even edges in a strip, from x `low` to x `high`.

    The width changes linearly between crossings of edges.
    """
    cuts = np.array([0.0, 1.0])
    if (np.diff(high[np.lexsort((high, low))]) < 0).any():
        before, after = low[:, None] - low, high[:, None] - high
        cross = before * after < 0
        cuts = np.unique([0, 1, *(before[cross] / (before[cross] - after[cross]))])
    middle = (cuts[1:] + cuts[:-1]) / 2
    x = np.sort(low + (high - low) * middle[:, None], axis=1)
    return float((x[:, 1::2] - x[:, ::2]).sum(axis=1) @ np.diff(cuts))
