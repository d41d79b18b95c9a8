"""Constant profiles: the baselines reported beside every score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoboost.regress.heads.base import Array, Files, Fitted, Training
from histoboost.regress.heads.blocks import Block


@dataclass(frozen=True, eq=False)
class Constant(Fitted):
    """The same profile (T,) for every spot, in units of the target."""

    profile: Array

    def predict(self, values: Block) -> Array:
        return np.tile(self.profile, (values.shape[0], 1))

    def to_files(self) -> Files:
        return Files({}, {}, {"profile": self.profile})


class ConstantHead:
    """Weighted mean of the targets over all training spots."""

    def fit(self, training: Training) -> Constant:
        targets, weights = np.concatenate(training.targets), np.concatenate(training.weights)
        return Constant(np.average(targets, axis=0, weights=weights))

    def load(self, files: Files) -> Constant:
        if files.arrays["profile"].ndim != 1:
            raise ValueError("the profile is not a vector")
        return Constant(files.arrays["profile"])


def target_of(model: str, target: str) -> str:
    """Target that `model` learns: `mean` and `mean-rank` imply theirs."""
    return {"mean": "raw", "mean-rank": "rank"}.get(model, target)
