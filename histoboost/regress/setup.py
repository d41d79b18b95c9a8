"""Parameters of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from histoboost.errors import BadInput
from histoboost.names import some
from histoboost.regress.expression import COORDS, DEFAULT_FEATURES, parse_features
from histoboost.regress.heads import MODELS, find_model
from histoboost.regress.targets import TARGETS

CHOICES = {
    "target": TARGETS,
    "group_by": ("auto", "slide", "group"),
    "standardize": ("slide", "training", "none"),
    "balance": ("slide", "none"),
}
#: Parameters of `--set`: type, smallest and largest value.
OPTIONS: Mapping[str, tuple[type, float, float]] = {
    "n_estimators": (int, 1, 100_000),
    "learning_rate": (float, 1e-9, 10),
    "num_leaves": (int, 2, 131_072),
    "max_bin": (int, 2, 65_535),
    "feature_fraction": (float, 1e-9, 1),
    "min_child_samples": (int, 0, math.inf),
    "reg_lambda": (float, 0, math.inf),
    "early_stopping": (int, 1, math.inf),
    "alpha": (float, 0, math.inf),
}


@dataclass(frozen=True)
class Setup:
    """Parameters of a model, see `CompositionRegressor`; invalid values are refused."""

    features: str = DEFAULT_FEATURES
    model: str = next(iter(MODELS))
    target: str = "joint"
    group_by: str = "auto"
    standardize: str = "slide"
    balance: str = "slide"
    smooth: float = 0.0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    trees: Sequence[str] | None = None

    def __post_init__(self) -> None:
        parse_features(self.features)
        takes = find_model(self.model).options
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise BadInput(f"{name} {value!r}: unknown; choose one of {', '.join(known)}")
        if not 0.0 <= self.smooth <= 1.0:
            raise BadInput(f"smooth {self.smooth}: must lie between 0 and 1")
        if self.seed < 0:
            raise BadInput(f"seed {self.seed}: must be 0 or more")
        if self.model == "coords":
            object.__setattr__(self, "features", COORDS)
        for name, value in self.options.items():
            if name in OPTIONS and name not in takes:
                raise BadInput(f"option {name}: model {self.model} does not take it; omit it")
            _check_option(name, value)
        if self.trees is not None:
            if self.model != "stack":
                raise BadInput(f"trees: model {self.model} has no optional trees; omit it")
            object.__setattr__(self, "trees", tuple(dict.fromkeys(self.trees)))

    def tree_types(self, cell_types: Sequence[str]) -> list[int] | None:
        """Indices, ascending, of the cell types that trees are grown for; None for all."""
        if self.trees is None:
            return None
        for name in self.trees:
            if name not in cell_types:
                raise BadInput(f"trees: no cell type {name!r}; there are {some(cell_types)}")
        return sorted(cell_types.index(name) for name in self.trees)

    def without_trees(self, cell_types: Sequence[str]) -> str:
        """Describe the cell types without trees; empty if there are none."""
        grown = self.tree_types(cell_types)
        if grown is None or len(grown) == len(cell_types):
            return ""
        if not grown:
            return f"none: kernel ridge alone predicts all {len(cell_types)} cell types"
        left = [name for at, name in enumerate(cell_types) if at not in grown]
        return f"for {len(grown)} cell types; kernel ridge alone predicts {len(left)}: {some(left)}"

    def to_json(self) -> dict[str, Any]:
        values = {**asdict(self), "options": dict(self.options)}
        if self.trees is None:  # the format before `trees` existed
            del values["trees"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setup:
        """Inverse of `to_json`; TypeError or HistoboostError if invalid."""
        names = {f.name for f in fields(cls)}
        if {"trees", *values} != names:
            raise BadInput(f"setup: fields {sorted({'trees', *values} ^ names)} do not fit")
        return cls(**values)


def _check_option(name: str, value: Any) -> None:
    if name not in OPTIONS:
        raise BadInput(f"option {name!r}: unknown; choose one of {', '.join(OPTIONS)}")
    kind, low, high = OPTIONS[name]
    number = isinstance(value, int | kind) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:
        what = "a whole number" if kind is int else "a number"
        limit = f"of {low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
        raise BadInput(f"option {name}={value!r}: must be {what} {limit}")
