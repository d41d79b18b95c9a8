"""The models that can learn composition from features, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput

Array = NDArray[np.float64]
Matrix = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

#: What `Fitted.importance` of a model called so shares out.
IMPORTANCE = {
    "lightgbm": "the trees' gain",
    "coords": "the trees' gain",
    "ridge": "the squared weights",
    "kernel": "the squared slopes of the predictions",
    "stack": "the squared slopes of the kernel ridge's predictions",
    "blend": "what its members rely on",
}


@dataclass(frozen=True, eq=False)
class Training:
    """What a head learns from: one entry per training slide.

    Attributes
    ----------
    blocks : sequence of ndarray of shape (n, F), float32
        Features.
    targets : sequence of ndarray of shape (n, T)
        Targets, such as ranks.
    weights : sequence of ndarray of shape (n,)
        Sample weights, mean 1 over all spots.
    groups : sequence of str
        Slides of one group are held out together by inner folds.
    seed : int
    jobs : int or None
        Cores to use at most.
    """

    blocks: Sequence[Matrix]
    targets: Sequence[Array]
    weights: Sequence[Array]
    groups: Sequence[str]
    seed: int = 0
    jobs: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def inner_folds(self) -> list[tuple[Training, list[int]]]:
        """For every group: the training data without it, and the indices of its slides."""
        return [
            (self.subset([i for i, g in enumerate(self.groups) if g != name]), held)
            for name in dict.fromkeys(self.groups)
            if (held := [i for i, g in enumerate(self.groups) if g == name])
        ]

    def subset(self, slides: Sequence[int]) -> Training:
        """The same with some of the slides."""
        return replace(
            self,
            blocks=[self.blocks[i] for i in slides],
            targets=[self.targets[i] for i in slides],
            weights=[self.weights[i] for i in slides],
            groups=[self.groups[i] for i in slides],
        )


class Fitted(Protocol):
    """A trained model."""

    def predict(self, values: Matrix) -> Array:
        """Features (n, F) to targets (n, T)."""
        ...

    def importance(self) -> Array | None:
        """Share of every feature (F,), summing to 1; None where the model cannot tell."""
        ...

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """What the bundle keeps: JSON fields, texts and arrays, by name."""
        ...


class Head(Protocol):
    """A way to train one; `load` is the inverse of `Fitted.to_files`."""

    def fit(self, training: Training) -> Fitted:
        """Learn from the training slides and from nothing else."""
        ...

    def load(self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays) -> Fitted:
        """Rebuild a trained model; KeyError or ValueError where something is off."""
        ...


class Begun(Protocol):
    """A training of which all is done that the cell types have in common."""

    def grow(self, types: Sequence[int]) -> TypeModels:
        """Train the models of these types, the same as if all were trained at once."""
        ...


class TypeModels(Fitted, Protocol):
    """A trained model that holds one model per type, and may hold those of some types only."""

    @property
    def texts(self) -> list[str]:
        """The models of its types, in LightGBM's text format."""
        ...

    def completed(self, texts: Sequence[str]) -> TypeModels:
        """The model of all types, given the texts of all of them in their order."""
        ...


@runtime_checkable
class DivisibleHead(Protocol):
    """A head whose types can be trained apart from each other, on several machines."""

    def common_share(self, options: Mapping[str, Any]) -> float:
        """Share of the training that types have in common, 0 to 1; 1 where it cannot be divided.

        A rough figure, measured once: it decides how many parts are worth their cost.
        """
        ...

    def begin(self, training: Training) -> Begun:
        """Do what types have in common."""
        ...


_HEADS: dict[str, Callable[[], Head]] = {}


def register(name: str) -> Callable[[Callable[[], Head]], Callable[[], Head]]:
    """Enter a head under `name`; a second one of the same name is an error."""

    def enter(make: Callable[[], Head]) -> Callable[[], Head]:
        if name in _HEADS:
            raise ValueError(f"head {name!r} is registered twice")
        _HEADS[name] = make
        return make

    return enter


def head_names() -> list[str]:
    """Names of all heads, in the order in which they were entered."""
    _import_all()
    return list(_HEADS)


def make_head(name: str) -> Head:
    """The head called `name`.

    Raises
    ------
    HistoboostError
        If there is none; the message lists those there are.
    """
    _import_all()
    if name not in _HEADS:
        raise BadInput(f"model {name!r}: unknown; there are {', '.join(_HEADS)}")
    return _HEADS[name]()


def _import_all() -> None:
    from histoboost.regress.heads import blend  # noqa: F401
    from histoboost.regress.heads import constant as baselines  # noqa: F401
    from histoboost.regress.heads import lightgbm as head_lightgbm  # noqa: F401
    from histoboost.regress.heads import ridge as head_ridge  # noqa: F401
    from histoboost.regress.heads import stack as head_stack  # noqa: F401
