"""What a model learns from, and the protocols of a head and of what it has learned."""

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
    """What a head learns from: one entry per training slide.

    Attributes
    ----------
    blocks : sequence of ndarray of shape (n, F), float32, or Rowwise
        Features.
    targets : sequence of ndarray of shape (n, T)
        Targets, such as ranks.
    weights : sequence of ndarray of shape (n,)
        Sample weights, mean 1 over all spots.
    groups : sequence of hashable
        Slides of one group are held out together by inner folds.
    scale : ndarray of shape (F,), float32
        What a kernel multiplies the features by, so that blocks count alike whatever their width.
    parts : sequence of slice
        Columns of the targets whose penalties are chosen apart.
    seed : int
    jobs : int or None
        Cores to use at most.
    options : mapping
        LightGBM's parameters that differ from the defaults.
    trees : sequence of int, optional
        Cell types that `stack` grows trees for; all by default.
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

    def inner_folds(self) -> list[list[int]]:
        """Indices of the slides of every group."""
        return held_together(self.groups)

    def subset(self, slides: Sequence[int]) -> Training:
        """The same with some of the slides."""
        return replace(
            self,
            blocks=[self.blocks[i] for i in slides],
            targets=[self.targets[i] for i in slides],
            weights=[self.weights[i] for i in slides],
            groups=[self.groups[i] for i in slides],
        )


def held_together(groups: Sequence[Hashable]) -> list[list[int]]:
    """Indices of the members of every group, groups in the order of their first member."""
    return [[i for i, g in enumerate(groups) if g == name] for name in dict.fromkeys(groups)]


class Files(NamedTuple):
    """What a bundle keeps of a trained model: JSON fields, texts and arrays, by name."""

    fields: dict[str, Any]
    texts: dict[str, str]
    arrays: Arrays


class Similarities(Protocol):
    """Training spots that a model compares others with."""

    def complete(self, values: Matrix, known: NDArray[np.bool_]) -> Matrix:
        """What the columns that are not `known` would be, told by those that are."""
        ...


class Fitted(Protocol):
    """A trained model."""

    @property
    def similarities(self) -> Similarities | None:
        """What can fill in columns that a spot lacks; None where there is none."""
        ...

    def predict(self, values: Block) -> Array:
        """Features (n, F) to targets (n, T)."""
        ...

    def importance(self) -> Array | None:
        """Share of every feature (F,), summing to 1; None where the model cannot tell."""
        ...

    def to_files(self) -> Files:
        """What the bundle keeps."""
        ...


class Head(Protocol):
    """A way to train one; `load` is the inverse of `Fitted.to_files`."""

    def fit(self, training: Training) -> Fitted:
        """Learn from the training slides and from nothing else."""
        ...

    def load(self, files: Files) -> Fitted:
        """Rebuild a trained model; KeyError or ValueError where something is off."""
        ...
