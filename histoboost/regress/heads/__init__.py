"""The table of models that `--model` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from histoboost.errors import BadInput
from histoboost.regress.heads.base import Head
from histoboost.regress.heads.constant import ConstantHead
from histoboost.regress.heads.coords import CoordsHead
from histoboost.regress.heads.lightgbm import LightGBMHead
from histoboost.regress.heads.ridge import KernelHead, RidgeHead
from histoboost.regress.heads.stack import StackHead

_GAIN = "of all that the trees gained on the training spots, what splits on them gained"
_SLOPES = "change with them (squared slopes, averaged over some training spots)"


class Model(NamedTuple):
    """One row of the table of models.

    `head` is its class, `options` are the parameters that `--set` accepts; `importance` and
    `meaning` name and explain its importances in the report, empty if it has none.
    """

    head: Callable[[], Head]
    options: tuple[str, ...] = ()
    importance: str = ""
    meaning: str = ""


#: LightGBM parameters that `--set` accepts.
TREES = (
    "n_estimators",
    "learning_rate",
    "num_leaves",
    "max_bin",
    "feature_fraction",
    "min_child_samples",
    "reg_lambda",
)
#: Models by name; the first is the default.
MODELS = {
    "stack": Model(
        StackHead,
        TREES,
        "the squared slopes of the kernel ridge's predictions",
        f"how strongly the kernel ridge's predictions, which the trees build on, {_SLOPES}",
    ),
    "lightgbm": Model(LightGBMHead, (*TREES, "early_stopping"), "the trees' gain", _GAIN),
    "ridge": Model(
        RidgeHead, ("alpha",), "the squared weights", "how much of the squared weights is theirs"
    ),
    "kernel": Model(
        KernelHead,
        (),
        "the squared slopes of the predictions",
        f"how strongly the predictions {_SLOPES}",
    ),
    "coords": Model(CoordsHead),
    "mean": Model(ConstantHead),
    "mean-rank": Model(ConstantHead),
}


def find_model(name: str) -> Model:
    """Look up a model; refuse unknown names."""
    if name not in MODELS:
        raise BadInput(f"model {name!r}: unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name]
