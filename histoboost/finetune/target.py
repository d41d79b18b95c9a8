"""Targets of networks: those of `regress`, and z-scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.targets import Target, fit_target


@dataclass(frozen=True)
class LearnedTarget:
    """Converts abundances to a network's targets, and its outputs to units of `target`.

    With `mean` and `std`, T floats each, the network learns z-scores.
    """

    target: Target
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def forward(self, abundance: NDArray[Any]) -> NDArray[np.float32]:
        """Convert abundances (N, T) to the network's targets, (N, T)."""
        values = self.target.forward(abundance)
        if self.mean is not None:
            values = (values - np.array(self.mean)) / np.array(self.std)
        learned: NDArray[np.float32] = values.astype(np.float32)
        return learned

    def restore(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Convert outputs (N, T) of the network to units of `target`."""
        values = outputs.astype(np.float64)
        return values if self.mean is None else values * np.array(self.std) + np.array(self.mean)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        mean, std = (scale and list(scale) for scale in (self.mean, self.std))
        return {"target": self.target.to_json(), "mean": mean, "std": std}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> LearnedTarget:
        """Inverse of `to_json`."""
        mean, std = (fields[k] and tuple(float(v) for v in fields[k]) for k in ("mean", "std"))
        return cls(Target.from_json(fields["target"]), mean, std)


def fit_learned_target(name: str, abundance: NDArray[Any]) -> LearnedTarget:
    """Fit a target on the training spots' abundances (N, T).

    ``"zscore"`` gives every cell type mean 0 and standard deviation 1; a constant type is only
    centred.
    """
    if name != "zscore":
        return LearnedTarget(fit_target(name, abundance))
    values = np.asarray(abundance, dtype=np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    std[std == 0] = 1.0
    return LearnedTarget(fit_target("raw", abundance), tuple(mean.tolist()), tuple(std.tolist()))
