"""Patches that were embedded elsewhere, and the spots they belong to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.spots import SpotTable, spot_pitch

#: A patch belongs to a spot if their centres are closer than this share of the spots' distance.
TOLERANCE = 0.25


@dataclass(frozen=True, eq=False)
class Patches:
    """Embeddings of M patches, and where they were cut.

    Attributes
    ----------
    path : Path
        Where they come from.
    features : ndarray of shape (M, D)
        Numbers.
    coords : ndarray of shape (M, 2), or None
        Upper left corners, (x, y) in pixels of the slide; spots' centres where `side` is unknown
        and they fit.
    side : float or None
        Side of a patch in pixels of the slide.
    barcodes : list of str, or None
        Spot ids; they go before coordinates.

    Raises
    ------
    HistoboostError
        If shapes do not fit, or a coordinate is not finite.
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
            raise BadInput(f"{self.path}: {self.side} is not a patch's side in pixels")
        if self.coords is None:
            return
        if self.coords.shape != (patches, 2) or self.coords.dtype.kind not in "fiu":
            raise BadInput(
                f"{self.path}: coords have shape {self.coords.shape} for {patches} patches "
                f"({self.coords.dtype}); give (x, y) of each"
            )
        if lost := int((~np.isfinite(self.coords)).any(axis=1).sum()):
            raise BadInput(
                f"{self.path}: coords of {lost} patches are not finite; leave these patches out"
            )

    def of_spots(self, table: SpotTable) -> NDArray[Any]:
        """The embeddings (N, D) of the N spots of `table`, in its order.

        Raises
        ------
        HistoboostError
            If a spot has no patch of its own, or several at the same place.

        Warns
        -----
        HistoboostWarning
            If there are patches without a spot.
        """
        rows = self._by_barcode(table) if self.barcodes is not None else self._by_coords(table)
        if spare := len(self.features) - len(rows):
            warnings.warn(
                f"{self.path}: {spare} of {len(self.features)} patches match no spot of slide "
                f"{table.slide} and are ignored",
                HistoboostWarning,
                stacklevel=2,
            )
        return self.features[rows]

    def _by_barcode(self, table: SpotTable) -> NDArray[np.int64]:
        names, patches = self.barcodes or [], len(self.features)
        where = {name: row for row, name in enumerate(names)}
        if len(names) != patches or len(where) != patches:
            raise BadInput(
                f"{self.path}: {len(where)} distinct barcodes for {patches} patches; each needs "
                "its own"
            )
        lacking = [spot for spot in table.spot_ids if spot not in where]
        if lacking:
            raise BadInput(
                f"{self.path}: {len(lacking)} of {len(table)} spots of slide {table.slide} have "
                f"no patch (first: {lacking[0]}); embed them too"
            )
        return np.array([where[spot] for spot in table.spot_ids])

    def _by_coords(self, table: SpotTable) -> NDArray[np.int64]:
        from scipy.spatial import cKDTree

        if self.coords is None or not len(self.features):
            raise BadInput(f"{self.path}: no 'coords' and no barcodes; patches cannot be matched")
        coords = self.coords.astype(np.float64)
        # A spot alone has no pitch; where its patch has no side either, the nearest pixel counts.
        pitch = spot_pitch(table.xy) or self.side or 1 / TOLERANCE
        if self.side is not None:
            shifts = [np.full(2, self.side / 2)]
        else:
            between = table.xy.mean(0) - coords.mean(0)
            square = len(coords) == len(table) and abs(between[0] - between[1]) <= 1
            shifts = [np.zeros(2), *([between] if square else [])]
        best: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        for shift in shifts:
            distance, rows = cKDTree(coords + shift).query(table.xy)
            near = int((distance <= TOLERANCE * pitch).sum())
            if near > best[0]:
                best = (near, rows.astype(np.int64))
        near, rows = best
        if near < len(table):
            raise BadInput(
                f"{self.path}: {len(table) - near} of {len(table)} spots of slide {table.slide} "
                "have no patch around them; embed patches centred on the spots, in pixels of the "
                "same image"
            )
        if len(np.unique(rows)) < len(rows):
            raise BadInput(
                f"{self.path}: two spots of slide {table.slide} share a patch; embed one patch "
                "for each"
            )
        _, place, times = np.unique(coords, axis=0, return_inverse=True, return_counts=True)
        if double := int((times[place.ravel()][rows] > 1).sum()):
            raise BadInput(
                f"{self.path}: {double} of {len(table)} spots of slide {table.slide} have several "
                "patches at the same place; leave one of each"
            )
        return rows
