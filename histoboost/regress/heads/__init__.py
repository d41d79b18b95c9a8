"""The models that can learn composition from features: what `--model` names."""

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

    `head` makes the head, `options` are what `--set` may set; `importance` and `meaning` say what
    its importances share out, in short and in words for the report, empty where it cannot tell.
    """

    head: Callable[[], Head]
    options: tuple[str, ...] = ()
    importance: str = ""
    meaning: str = ""


#: Parameters of LightGBM that can be set.
TREES = (
    "n_estimators",
    "learning_rate",
    "num_leaves",
    "max_bin",
    "feature_fraction",
    "min_child_samples",
    "reg_lambda",
)
#: The default comes first.
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
    """The row of the model called `name`.

    Raises
    ------
    HistoboostError
        If there is none; the message lists those there are.
    """
    if name not in MODELS:
        raise BadInput(f"model {name!r}: unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name]
