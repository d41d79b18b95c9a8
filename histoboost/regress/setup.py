"""Everything that determines a model besides its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from histoboost.errors import BadInput
from histoboost.regress.expression import DEFAULT_FEATURES, parse_features
from histoboost.regress.heads.base import head_names
from histoboost.regress.targets import TARGETS

BALANCES = ("slide", "none")
GROUPINGS = ("slide", "group")
STANDARDIZE = ("slide", "none")
#: Names and types of the options that the LightGBM head takes.
LIGHTGBM_OPTIONS: Mapping[str, type] = {
    "n_estimators": int,
    "learning_rate": float,
    "num_leaves": int,
    "max_bin": int,
    "feature_fraction": float,
    "min_child_samples": int,
    "reg_lambda": float,
    "early_stopping": int,
}


@dataclass(frozen=True)
class Setup:
    """What to learn, from what, and how.

    Attributes
    ----------
    features : str
        Feature-set expression.
    model : str
        Name of a head: ``"stack"``, ``"lightgbm"``, ``"ridge"``, ``"kernel"``, ``"blend"``,
        ``"coords"``, ``"mean"`` or ``"mean-rank"``.
    target : str
        ``"rank"``, ``"log"`` or ``"raw"``.
    group_by : str
        What is held out together, by folds and inner folds: ``"slide"`` or ``"group"``.
    standardize : str
        ``"slide"``: embeddings to mean 0 and variance 1 within each slide, cut off at 3;
        ``"none"``.
    balance : str
        ``"slide"``: every training slide counts the same; ``"none"``: every spot.
    smooth : float
        Share of a spot's prediction that is taken from the mean of its neighbours', 0 to 1.
    seed : int
    options : mapping
        LightGBM's parameters that differ from the defaults.

    Raises
    ------
    HistoboostError
        If a value is not one of those listed.
    """

    features: str = DEFAULT_FEATURES
    model: str = "stack"
    target: str = "rank"
    group_by: str = "slide"
    standardize: str = "slide"
    balance: str = "slide"
    smooth: float = 0.0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parse_features(self.features)
        if not 0.0 <= self.smooth <= 1.0:
            raise BadInput(f"smooth {self.smooth}: must lie between 0 and 1")
        if self.seed < 0:
            raise BadInput(f"seed {self.seed}: must be 0 or more")
        known = {
            "model": head_names(),
            "target": TARGETS,
            "group_by": GROUPINGS,
            "standardize": STANDARDIZE,
            "balance": BALANCES,
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise BadInput(
                    f"{name} {getattr(self, name)!r}: unknown; there are {', '.join(values)}"
                )
        if self.model == "coords":
            object.__setattr__(self, "features", "coords")
        for name, value in self.options.items():
            self._check_option(name, value)

    def _check_option(self, name: str, value: Any) -> None:
        if self.model not in ("lightgbm", "coords", "blend", "stack"):
            raise BadInput(f"option {name}: model {self.model} takes none; leave it out")
        if name not in LIGHTGBM_OPTIONS:
            known = ", ".join(LIGHTGBM_OPTIONS)
            raise BadInput(f"option {name!r}: unknown; LightGBM's are {known}")
        kind = LIGHTGBM_OPTIONS[name]
        number = isinstance(value, int | kind) and not isinstance(value, bool)
        if not number or not float(value) >= 0:
            raise BadInput(f"option {name}={value!r}: must be a positive {kind.__name__}")

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setup:
        """Inverse of `to_json`; TypeError or HistoboostError where something is off."""
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise BadInput(f"setup: fields {sorted(set(values) ^ names)} do not fit")
        return cls(**values)
