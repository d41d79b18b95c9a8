"""Feature importances, summed by embedding, layer, patch size and neighbourhood."""

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
    """Group the columns of a feature matrix: grouping -> group -> columns.

    The groupings are ``"feature"`` and, if they have fewer groups but more than one,
    ``"embedding"``, ``"layer"``, ``"patch size"`` and ``"neighbourhood"``.
    """
    found: dict[str, Groups] = {}
    for part in columns:
        own = np.arange(part.start, part.stop)
        for grouping, group in _labels(part.term).items():
            groups = found.setdefault(grouping, {})
            groups[group] = np.concatenate([groups[group], own]) if group in groups else own
    return {
        grouping: groups
        for grouping, groups in found.items()
        if grouping == "feature" or 1 < len(groups) < len(found["feature"])
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
    """Loss of per-spot Spearman when a group of features is shuffled between spots.

    All columns of a group are permuted together, and all groups by the same permutation.
    `predict` maps `features` (N, F) of one held-out slide to predictions (N, T), which are compared
    with the abundances `truth`. A loss is negative if the model does better without the group.
    """
    order = np.random.default_rng(seed).permutation(len(features))
    baseline = spot_spearman(predict(features), truth)
    losses = {}
    shuffled = features.copy()
    for name, columns in groups.items():
        shuffled[:, columns] = features[np.ix_(order, columns)]
        losses[name] = baseline - spot_spearman(predict(shuffled), truth)
        shuffled[:, columns] = features[:, columns]
    return losses


def gain(predictor: Predictor) -> NDArray[np.float64] | None:
    """Share of each feature (F,) in the importance of the model; None if the model has none.

    The importance of a principal component is distributed over features by their squared loadings,
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
