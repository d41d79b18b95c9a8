"""Training data, and the protocols of heads and fitted models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.heads.blocks import Block, Matrix

Array = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Training:
    """Training data of a head, slide by slide.

    `blocks` are features (n, F), `targets` (n, T) and sample `weights` (n,), mean 1 over all
    spots. Inner folds hold out slides with equal `groups` together. Kernels multiply features by
    `scale` (F,), so that blocks count alike whatever their width. Penalties are chosen separately
    for the target columns of each of `parts`. `options` are LightGBM parameters, or the penalty of
    ridge; `trees` are the cell types that `stack` grows trees for (None: all).
    """

    blocks: Sequence[Block]
    targets: Sequence[Array]
    weights: Sequence[Array]
    groups: Sequence[Hashable]
    scale: Matrix
    parts: Sequence[slice]
    seed: int = 0
    jobs: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    trees: Sequence[int] | None = None

    def subset(self, slides: Sequence[int]) -> Training:
        """Select slides."""
        return replace(
            self,
            blocks=[self.blocks[i] for i in slides],
            targets=[self.targets[i] for i in slides],
            weights=[self.weights[i] for i in slides],
            groups=[self.groups[i] for i in slides],
        )


def group_members(groups: Sequence[Hashable]) -> list[list[int]]:
    """Indices of the members of each group, in order of first appearance."""
    return [[i for i, g in enumerate(groups) if g == name] for name in dict.fromkeys(groups)]


class Files(NamedTuple):
    """Content of a model bundle: JSON fields, texts and arrays, by name."""

    fields: dict[str, Any]
    texts: dict[str, str]
    arrays: Arrays


class Similarities(Protocol):
    """Training spots that new spots are compared with."""

    def complete(self, values: Matrix, known: NDArray[np.bool_]) -> Matrix:
        """Estimate the columns that are not `known` (F,) from those that are."""
        ...


class Fitted(Protocol):
    """A trained model."""

    @property
    def similarities(self) -> Similarities | None:
        """Estimates missing features; None if the model cannot."""
        return None

    def predict(self, values: Block) -> Array:
        """Predict targets (n, T) from features (n, F)."""
        ...

    def importance(self) -> Array | None:
        """Share of each feature (F,) in the model, summing to 1; None if undefined."""
        return None

    def to_files(self) -> Files:
        """Content of the bundle."""
        ...


class Head(Protocol):
    """Trains a model; `load` is the inverse of `Fitted.to_files`."""

    def fit(self, training: Training) -> Fitted:
        """Train on the training slides only."""
        ...

    def load(self, files: Files) -> Fitted:
        """Load a trained model; KeyError or ValueError if `files` are inconsistent."""
        ...
