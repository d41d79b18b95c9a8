"""The five scores of held-out predictions, and baselines that need no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.regress.features import unit_coords
from histoboost.regress.fitting import fit_coords, spot_weights
from histoboost.regress.heads.base import Array
from histoboost.regress.heads.constant import target_of
from histoboost.regress.joint import to_shares
from histoboost.regress.layout import abundance_of, ranks_of
from histoboost.regress.metrics import (
    centred_ranks,
    correlation_of_ranks,
    pearson,
    share_jsd,
    share_rmse,
)
from histoboost.regress.setup import Setup
from histoboost.regress.targets import Target, fit_target
from histoboost.regress.units import to_units
from histoboost.spots import SpotTable

#: Scores of a prediction; lower is better for the last two.
SCORES = ("spot_spearman", "type_spearman", "type_pearson", "share_rmse", "share_jsd")
CONSTANTS = ("mean", "mean-rank")
#: Number of spots of a slide below which its scores are flagged as uncertain.
FEW_SPOTS = 10


class Truth(NamedTuple):
    """Truth of a held-out slide: centred ranks, and shares of spots with any abundance."""

    by_spot: Array
    by_type: Array
    with_any: NDArray[np.bool_]
    shares: Array
    cell_types: tuple[str, ...]

    @classmethod
    def from_spots(cls, table: SpotTable) -> Truth:
        """Truth of a labelled slide."""
        true = abundance_of(table).astype(np.float64)
        with_any = np.maximum(true, 0).sum(axis=1) > 0
        by_spot, by_type = (
            each.astype(np.float64) - (true.shape[axis] + 1) / 2
            for each, axis in zip(ranks_of(table), (1, 0), strict=True)
        )
        return cls(by_spot, by_type, with_any, to_shares(true[with_any]), table.cell_types)


def five_scores(
    predicted: Sequence[Array], shares: Sequence[Array], held_out: Sequence[Truth]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Scores by name, and correlations by cell type, of predictions slide by slide.

    `predicted` are (N, T), or (1, T) if constant, in any unit, `shares` (N, T).
    """
    spots, by_type = (
        [
            correlation_of_ranks(centred_ranks(p, axis), getattr(t, name), axis)
            for p, t in zip(predicted, held_out, strict=True)
        ]
        for axis, name in ((1, "by_spot"), (0, "by_type"))
    )
    mean_by_type = np.mean(by_type, axis=0)
    guessed = [s[t.with_any] for s, t in zip(shares, held_out, strict=True)]
    true_shares = [t.shares for t in held_out]
    linear = np.mean([pearson(s, t) for s, t in zip(guessed, true_shares, strict=True)], axis=0)
    everywhere = np.concatenate(guessed), np.concatenate(true_shares)
    values = (
        float(np.concatenate(spots).mean()),
        float(mean_by_type.mean()),
        float(linear.mean()),
        share_rmse(*everywhere),
        share_jsd(*everywhere),
    )
    types = {
        name: {"spearman": float(rank), "pearson": float(value)}
        for name, rank, value in zip(held_out[0].cell_types, mean_by_type, linear, strict=True)
    }
    return dict(zip(SCORES, values, strict=True)), types


def scores_of(
    predictions: Sequence[Array], held_out: Sequence[Truth], target: Target
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """`five_scores` of predictions (N, `target.width(T)`) of `target`."""
    merged = [to_units(one, "none", target) for one in predictions]
    shares = [to_units(one, "share", target) for one in predictions]
    return five_scores(merged, shares, held_out)


def slide_scores(
    predicted: Array, table: SpotTable, cell_types: Sequence[str], target: Target
) -> dict[str, float] | None:
    """Scores of one slide; None if it is not labelled with the `cell_types` of the model."""
    if table.abundance is None or set(table.cell_types) != set(cell_types):
        return None
    warn_of_few_spots([table])
    order = [table.cell_types.index(name) for name in cell_types]
    truth = replace(table, abundance=table.abundance[:, order], cell_types=tuple(cell_types))
    return scores_of([predicted], [Truth.from_spots(truth)], target)[0]


def warn_of_few_spots(scored: Sequence[SpotTable]) -> None:
    """Warn about slides with too few spots for their scores to be meaningful."""
    few = [f"{table.slide} ({len(table)})" for table in scored if len(table) < FEW_SPOTS]
    if few:
        warn(
            f"slides of fewer than {FEW_SPOTS} spots: {', '.join(few)}; their scores, above all "
            "per type, are mostly chance, but count in means like those of other slides"
        )


def baselines(
    training: Sequence[SpotTable], held_out: Sequence[SpotTable], setup: Setup
) -> dict[str, dict[str, float]]:
    """Scores of baselines that need no image: constant profiles, and position alone."""
    known = [abundance_of(table) for table in training]
    together = np.concatenate(known, dtype=np.float64)
    weights = np.concatenate(spot_weights([len(part) for part in known], setup.balance))
    with_any = weights * (np.maximum(together, 0).sum(axis=1) > 0)  # others have no shares
    found, truths = {}, [Truth.from_spots(table) for table in held_out]
    for name in CONSTANTS:
        target = fit_target(target_of(name, ""), together)
        profile = np.average(target.forward(together), axis=0, weights=weights)
        if name == "mean":  # the mean share minimises the squared error of shares
            counted = with_any if with_any.any() else weights
            share = np.average(to_shares(together), axis=0, weights=counted)
        else:
            share = to_units(profile[None], "share", target)[0]
        shares = [np.broadcast_to(share, (len(table), len(share))) for table in held_out]
        found[name], _ = five_scores([profile[None]] * len(truths), shares, truths)
    coords = fit_coords(training, setup)
    parts = [
        coords.predict(unit_coords(table.xy).astype(np.float32), table.xy) for table in held_out
    ]
    found["coords"], _ = scores_of(parts, truths, coords.target)
    return found
