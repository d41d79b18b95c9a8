"""Predictions of slides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoboost.spots import SpotTable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Predictions of one slide.

    Attributes
    ----------
    spots : SpotTable
        The slide and its spots.
    cell_types : tuple of str
        T names.
    values : ndarray of shape (N, T)
        Predictions, in the order of `spots`.
    units : str
        Units of `values`, see `CompositionRegressor.predict`.
    low, high : ndarray of shape (N, T), or None
        Bounds of the interval, if requested.
    scores : dict or None
        The five scores, if the slide is labelled with the same cell types.
    novelty : ndarray of shape (N,), or None
        Distance of each spot to the training spots; above 1 it is farther than 95 % of the spots of
        a held-out training slide. None if the model cannot judge it.
    unlike : bool
        Whether the slide as a whole is unlike the training slides.
    turn : str or None
        How its patches were turned before embedding, such as ``"90-mirrored"``, because it is
        mounted differently from the training slides; coordinates are not changed.
    warnings : tuple of str
        Warnings about this slide.
    """

    spots: SpotTable
    cell_types: tuple[str, ...]
    values: Array
    units: str
    low: Array | None = None
    high: Array | None = None
    scores: dict[str, float] | None = None
    novelty: Array | None = None
    unlike: bool = False
    turn: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def slide(self) -> str:
        """Name of the slide."""
        return self.spots.slide

    @property
    def novel_share(self) -> float | None:
        """Share of spots with novelty above 1; None if unknown."""
        return None if self.novelty is None else float(np.mean(self.novelty > 1))

    def to_frame(self) -> pd.DataFrame:
        """One row per spot: slide, spot, x, y (pixels), and a column for each cell type.

        Bounds follow as ``<type>_lower`` and ``<type>_upper``, then ``novelty`` if known.
        """
        table = self.spots
        where = {"slide": table.slide, "spot": table.spot_ids, "x": table.xy[:, 0]}
        return pd.concat([pd.DataFrame({**where, "y": table.xy[:, 1]}), self.numbers()], axis=1)

    def numbers(self) -> pd.DataFrame:
        """The columns of `to_frame` that follow slide, spot, x and y."""
        frames = []
        for suffix, values in (("", self.values), ("_lower", self.low), ("_upper", self.high)):
            if values is not None:
                names = [f"{name}{suffix}" for name in self.cell_types]
                frames.append(pd.DataFrame(values, columns=names))
        if self.novelty is not None:
            frames.append(pd.DataFrame({"novelty": self.novelty}))
        return pd.concat(frames, axis=1)

    def __repr__(self) -> str:
        spots, types = self.values.shape
        return f"<Prediction: slide {self.slide}, {spots} spots, {types} types, {self.units}>"


class Predictions(tuple[Prediction, ...]):
    """Predictions of several slides, one `Prediction` each."""

    __slots__ = ()

    def __new__(cls, predictions: Iterable[Prediction] = ()) -> Predictions:
        return super().__new__(cls, predictions)

    def to_frame(self) -> pd.DataFrame:
        """Concatenate `Prediction.to_frame` of all slides."""
        return pd.concat([each.to_frame() for each in self], ignore_index=True)

    def __repr__(self) -> str:
        return f"<Predictions: {len(self)} slides>\n  " + "\n  ".join(map(repr, self))
