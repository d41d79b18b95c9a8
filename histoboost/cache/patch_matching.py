"""Match patches embedded by other programs to spots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, warn
from histoboost.spots import SpotTable, spot_pitch

#: Largest distance of a patch centre from its spot, as a share of the spot pitch.
TOLERANCE = 0.25


@dataclass(frozen=True, eq=False)
class Patches:
    """Embeddings of M patches, (M, D), with their coordinates or barcodes.

    `coords`, (M, 2), are upper left corners, (x, y) in slide pixels, and `side` is that of a patch;
    if `side` is unknown, `coords` may be spot centres. `barcodes` are spot ids and take precedence.
    `path` is named in errors.
    """

    path: Path
    features: NDArray[Any]
    coords: NDArray[Any] | None = None
    side: float | None = None
    barcodes: list[str] | None = None

    def __post_init__(self) -> None:
        shape, patches = self.features.shape, len(self.features)
        if len(shape) != 2 or self.features.dtype.kind not in "fiu":
            raise BadInput(
                f"{self.path}: features are {self.features.dtype} of shape {shape}, not numbers "
                "of shape (patches, width)"
            )
        if self.side is not None and not 0 < self.side < np.inf:
            raise BadInput(f"{self.path}: {self.side} is not the side of a patch in pixels")
        if self.coords is None:
            return
        if self.coords.shape != (patches, 2) or self.coords.dtype.kind not in "fiu":
            raise BadInput(
                f"{self.path}: coords are {self.coords.dtype} of shape {self.coords.shape}; give "
                f"(x, y) for each of the {patches} patches"
            )
        if lost := int((~np.isfinite(self.coords)).any(axis=1).sum()):
            raise BadInput(
                f"{self.path}: coords of {lost} patches are not finite; omit these patches"
            )

    def match(self, table: SpotTable) -> NDArray[Any]:
        """Embeddings (N, D) of the spots of `table`, in its order.

        Refused if a spot lacks a patch of its own or has several; warns of patches without a spot.
        """
        rows = self._by_barcode(table) if self.barcodes is not None else self._by_coords(table)
        if spare := len(self.features) - len(rows):
            warn(
                f"{self.path}: {spare} of {len(self.features)} patches match no spot of slide "
                f"{table.slide} and are ignored"
            )
        return self.features[rows]

    def _by_barcode(self, table: SpotTable) -> NDArray[np.int64]:
        names, patches = self.barcodes or [], len(self.features)
        rows = {name: row for row, name in enumerate(names)}
        if not len(names) == len(rows) == patches:
            raise BadInput(
                f"{self.path}: {len(rows)} distinct barcodes for {patches} patches; each needs "
                "its own"
            )
        missing = [spot for spot in table.spot_ids if spot not in rows]
        if missing:
            raise BadInput(
                f"{self.path}: {len(missing)} of {len(table)} spots of slide {table.slide} have "
                f"no patch (first: {missing[0]}); embed them too"
            )
        return np.array([rows[spot] for spot in table.spot_ids])

    def _by_coords(self, table: SpotTable) -> NDArray[np.int64]:
        from scipy.spatial import cKDTree

        if self.coords is None or not len(self.features):
            raise BadInput(
                f"{self.path}: neither 'coords' nor barcodes to match patches to spots; add one"
            )
        coords = self.coords.astype(np.float64)
        # A single spot has no pitch; without a patch side either, match to the nearest pixel.
        pitch = spot_pitch(table.xy) or self.side or 1 / TOLERANCE
        if self.side is not None:
            shifts = [np.full(2, self.side / 2)]
        else:
            offset = table.xy.mean(0) - coords.mean(0)
            square = len(coords) == len(table) and abs(offset[0] - offset[1]) <= 1
            shifts = [np.zeros(2), *([offset] if square else [])]
        matches = [cKDTree(coords + shift).query(table.xy) for shift in shifts]
        distance: NDArray[np.float64]
        rows: NDArray[np.int64]
        distance, rows = max(matches, key=lambda match: (match[0] <= TOLERANCE * pitch).sum())
        if far := int((distance > TOLERANCE * pitch).sum()):
            raise BadInput(
                f"{self.path}: {far} of {len(table)} spots of slide {table.slide} have no patch "
                "around them; embed patches centred on the spots, in pixels of the same image"
            )
        if len(np.unique(rows)) < len(rows):
            raise BadInput(
                f"{self.path}: two spots of slide {table.slide} share a patch; embed one patch "
                "for each"
            )
        _, site, counts = np.unique(coords, axis=0, return_inverse=True, return_counts=True)
        if multiple := int((counts[site.ravel()][rows] > 1).sum()):
            raise BadInput(
                f"{self.path}: {multiple} of {len(table)} spots of slide {table.slide} have "
                "several patches at the same coordinates; keep one of each"
            )
        return rows
