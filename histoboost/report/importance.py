"""What a model relies on: features summed by embedding, patch size and neighbourhood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.regress.expression import Term
from histoboost.regress.metrics import spot_spearman

if TYPE_CHECKING:
    from histoboost.regress.fitting import Predictor
    from histoboost.regress.layout import Columns

Groups = dict[str, NDArray[np.intp]]


def column_groups(columns: Iterable[Columns]) -> dict[str, Groups]:
    """Ways to divide the columns of a feature matrix: name of the way -> group -> columns.

    ``"feature"`` always; ``"embedding"``, ``"layer"``, ``"patch size"`` and ``"neighbourhood"``
    where they divide the columns into fewer groups than the features do, but more than one.
    """
    ways: dict[str, dict[str, list[NDArray[np.intp]]]] = {}
    for part in columns:
        rows = np.arange(part.start, part.stop)
        for way, group in _labels(part.term).items():
            ways.setdefault(way, {}).setdefault(group, []).append(rows)
    joined = {
        way: {group: np.concatenate(parts) for group, parts in groups.items()}
        for way, groups in ways.items()
    }
    features = joined["feature"]
    return {
        way: groups
        for way, groups in joined.items()
        if way == "feature" or 1 < len(groups) < len(features)
    }


def _labels(term: Term) -> dict[str, str]:
    backbone, _, rest = term.name.partition("@")
    side, _, layer = rest.partition(".")
    around = f"area {term.area} %" if term.area else "the spot itself"
    around = f"ring {term.rings}" if term.rings else around
    return {
        "feature": str(term),
        "embedding": backbone,
        "layer": layer or "last",
        "patch size": f"{side} px" if side.isdigit() else side or backbone,
        "neighbourhood": around,
    }


def permutation(
    predict: Callable[[NDArray[np.float32]], NDArray[Any]],
    features: NDArray[np.float32],
    truth: NDArray[np.float32],
    groups: Mapping[str, NDArray[np.intp]],
    seed: int = 0,
) -> dict[str, float]:
    """Per-spot Spearman that is lost when a group of features is shuffled between spots.

    All columns of a group are shuffled together, so that they stay what they were to each other and
    only lose the spot that they belong to; the order is the same for all groups. `predict` takes
    `features` (N, F), of the spots of one slide that the model never saw, to (N, T), which is
    compared with the abundances `truth`. A loss is negative where the model does better without the
    group.
    """
    order = np.random.default_rng(seed).permutation(len(features))
    whole = spot_spearman(predict(features), truth)
    lost = {}
    shuffled = features.copy()
    for name, columns in groups.items():
        shuffled[:, columns] = features[np.ix_(order, columns)]
        lost[name] = whole - spot_spearman(predict(shuffled), truth)
        shuffled[:, columns] = features[:, columns]
    return lost


def gain(predictor: Predictor) -> NDArray[np.float64] | None:
    """Share of every assembled feature (F,) in what the model built on; None if it cannot tell.

    The importance of a principal component falls to the features by their squared loadings,
    which sum to 1.
    """
    reduced = predictor.fitted.importance()
    if reduced is None:
        return None
    parts, start = [], 0
    for part in predictor.reduction.parts:
        own = np.asarray(reduced[start : start + part.width], dtype=np.float64)
        parts.append(own if part.axes is None else np.square(part.axes) @ own)
        start += part.width
    return np.concatenate(parts)
