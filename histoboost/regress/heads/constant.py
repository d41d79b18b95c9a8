"""Constant profiles: every score is printed beside theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoboost.regress.heads.base import Array, Files, Training
from histoboost.regress.heads.blocks import Block


@dataclass(frozen=True, eq=False)
class Constant:
    """The same profile (T,) for every spot, in units of the target."""

    profile: Array

    @property
    def similarities(self) -> None:
        """None: it compares with no training spots."""
        return None

    def predict(self, values: Block) -> Array:
        """See `Fitted`."""
        return np.tile(self.profile, (values.shape[0], 1))

    def importance(self) -> Array | None:
        """It looks at no feature."""
        return None

    def to_files(self) -> Files:
        """One array."""
        return Files({}, {}, {"profile": self.profile})


class ConstantHead:
    """Weighted mean of the targets over all training spots.

    `mean` and `mean-rank` are this head with the raw and with the rank target: `target_of` says
    so, whatever target is named.
    """

    def fit(self, training: Training) -> Constant:
        """See `Head`."""
        targets, weights = np.concatenate(training.targets), np.concatenate(training.weights)
        return Constant(np.average(targets, axis=0, weights=weights))

    def load(self, files: Files) -> Constant:
        """See `Head`."""
        if files.arrays["profile"].ndim != 1:
            raise ValueError("the profile is not a vector")
        return Constant(files.arrays["profile"])


def target_of(model: str, target: str) -> str:
    """Target that `model` learns: the constant profiles are defined by theirs."""
    return {"mean": "raw", "mean-rank": "rank"}.get(model, target)
