"""The `coords` model: position on the slide alone.

Sections of a data set are mounted alike, so position alone scores high; a model that does not
beat this one has learned nothing from the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from histoboost.regress.heads.base import Array, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block, Matrix, draw, rows_of
from histoboost.regress.heads.lightgbm import LightGBMHead
from histoboost.regress.heads.ridge import FittedKernel, KernelHead

#: Training spots used at most: composition is smooth in position, more change nothing.
SPOTS = 1 << 15


@dataclass(frozen=True, eq=False)
class FittedCoords(Fitted):
    """A kernel model of position."""

    kernel: FittedKernel

    def predict(self, values: Block) -> Array:
        return self.kernel.predict(_add_constant(rows_of(values)))

    def to_files(self) -> Files:
        return self.kernel.to_files()


class CoordsHead:
    """Ridge regression with a Gaussian kernel on x and y."""

    def fit(self, training: Training) -> FittedCoords:
        rows = draw(training.weights, SPOTS, training.seed)
        blocks = zip(training.blocks, rows, strict=True)
        drawn = replace(
            training,
            blocks=[_add_constant(rows_of(block, own)) for block, own in blocks],
            targets=[y[own] for y, own in zip(training.targets, rows, strict=True)],
            weights=[w[own] for w, own in zip(training.weights, rows, strict=True)],
            scale=np.ones(1, np.float32),
        )
        return FittedCoords(KernelHead().fit(drawn))

    def load(self, files: Files) -> Fitted:
        if "models" in files.fields:  # models of 0.1.0 were LightGBM
            return LightGBMHead().load(files)
        return FittedCoords(KernelHead().load(files))


def _add_constant(values: Matrix) -> Matrix:
    """Centre x and y (n, 2) and add a constant column (n, 3).

    The kernel compares directions; with a constant, each position has its own.
    """
    centred = values - np.float32(0.5)
    return np.concatenate([centred, np.ones((len(values), 1), np.float32)], axis=1)
