"""Regions drawn on a slide, as QuPath exports them (GeoJSON, pixels of the full resolution)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput

_REMEDY = "export annotations in QuPath with File > Export objects as GeoJSON"


@dataclass(frozen=True, eq=False)
class Region:
    """One drawn region: its name, and its class, such as ``Tumor``, empty where it has none.

    `rings` are closed outlines (K, 2), x and y in pixels; a place is inside where it lies in an odd
    number of them, so that holes are rings, too.
    """

    name: str
    label: str
    rings: tuple[NDArray[np.float64], ...]

    def contains(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each of the places `xy`, (N, 2) in pixels, is inside."""
        from matplotlib.path import Path as Outline

        inside = np.zeros(len(xy), dtype=bool)
        for ring in self.rings:
            inside ^= Outline(ring).contains_points(xy)
        return inside

    @property
    def area(self) -> float:
        """In square pixels; holes, the rings inside others, are taken off."""
        areas = [_area(ring) for ring in self.rings]
        depth = [
            sum(_encloses(other, ring) for other in self.rings if other is not ring)
            for ring in self.rings
        ]
        return sum(a if d % 2 == 0 else -a for a, d in zip(areas, depth, strict=True))


def read_regions(path: str | Path) -> list[Region]:
    """The polygons of a GeoJSON file; points and lines are passed over.

    The file holds a feature collection, a list of features, one feature or one geometry.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        regions = [
            _region(feature, number)
            for number, feature in enumerate(_features(document), start=1)
            if _geometry(feature)["type"] in ("Polygon", "MultiPolygon")
        ]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}; give a GeoJSON file") from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as GeoJSON; {_REMEDY}") from error
    if not regions:
        raise BadInput(f"{path}: contains no polygon; {_REMEDY}")
    return regions


def _features(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, list):
        return document
    features: list[dict[str, Any]] = document.get("features", [document])
    return features


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


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T  # near 0, for the digits
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _encloses(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> bool:
    from matplotlib.path import Path as Outline

    # Rings may touch in a point: most of the corners decide.
    return bool(Outline(outer).contains_points(inner).mean() > 0.5)
