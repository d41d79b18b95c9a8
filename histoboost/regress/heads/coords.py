"""The `coords` model: where on the slide a spot lies, and nothing else.

Sections of a set are mounted alike, so that position alone scores high; a model that does not beat
this one has learned nothing from the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from histoboost.regress.heads.base import Array, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block, Matrix, draw, rows_of
from histoboost.regress.heads.lightgbm import LightGBMHead
from histoboost.regress.heads.ridge import FittedKernel, KernelHead

#: Training spots that position is learned from, at most: it is smooth, and more change nothing.
SPOTS = 1 << 15


@dataclass(frozen=True, eq=False)
class FittedCoords:
    """A kernel model of position."""

    kernel: FittedKernel

    @property
    def similarities(self) -> None:
        """None: it compares with no training spots."""
        return None

    def predict(self, values: Block) -> Array:
        """See `Fitted`."""
        return self.kernel.predict(_lifted(rows_of(values, slice(None))))

    def importance(self) -> Array | None:
        """There is nothing to share out."""
        return None

    def to_files(self) -> Files:
        """The kernel's."""
        return self.kernel.to_files()


class CoordsHead:
    """Ridge regression with a Gaussian kernel on x and y."""

    def fit(self, training: Training) -> FittedCoords:
        """See `Head`."""
        rows = draw(training.weights, SPOTS, training.seed)
        some = replace(
            training,
            blocks=[_lifted(rows_of(b, own)) for b, own in zip(training.blocks, rows, strict=True)],
            targets=[y[own] for y, own in zip(training.targets, rows, strict=True)],
            weights=[w[own] for w, own in zip(training.weights, rows, strict=True)],
            scale=np.ones(1, np.float32),
        )
        return FittedCoords(KernelHead().fit(some))

    def load(self, files: Files) -> Fitted:
        """See `Head`; models of 0.1.0 were LightGBM."""
        if "models" in files.fields:
            return LightGBMHead().load(files)
        return FittedCoords(KernelHead().load(files))


def _lifted(values: Matrix) -> Matrix:
    """x and y (n, 2), each 0 to 1, with a constant (n, 3).

    The kernel compares directions; with a constant beside them, every place has its own.
    """
    centred = values - np.float32(0.5)
    return np.concatenate([centred, np.ones((len(values), 1), np.float32)], axis=1)
