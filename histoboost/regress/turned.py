"""Cross-validation with held-out slides that are turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput
from histoboost.regress.compatibility import check_alike
from histoboost.regress.features import FeatureMatrix, assemble
from histoboost.regress.folds import Fold, make_folds
from histoboost.regress.layout import describe
from histoboost.regress.scores import CrossValidation, run_fold
from histoboost.regress.setup import Setup
from histoboost.regress.slides import named_slides
from histoboost.spots import SpotTable


def cross_validate_turned(
    store: EmbeddingStore,
    turned: EmbeddingStore,
    setup: Setup,
    spots: Sequence[SpotTable],
    *,
    held_out: str | Sequence[str] | None = None,
    jobs: int | None = None,
) -> CrossValidation:
    """Train on slides of `store`; score held-out ones from `turned`, see ``featurize --turned``."""
    layout = describe(store, spots, setup.features)
    setup = replace(setup, features=layout.features)
    folds = make_folds(spots, setup.group_by, held_out)
    wanted = [spots[slide] for fold in folds for slide in fold.held_out]
    tables = named_slides(turned, [table.slide for table in wanted])
    for own, table in zip(wanted, tables, strict=True):
        if own.spot_ids != table.spot_ids:
            raise BadInput(
                f"{turned.location}: slide {table.slide} has other spots than in "
                f"{store.location}; featurize the same data with --turned"
            )
    there = describe(turned, tables, setup.features)
    check_alike(layout.recipes, turned, there.slides)
    upright, other = (
        assemble(*each, setup.standardize) for each in ((store, layout), (turned, there))
    )
    parts = [each.moments for each in (upright, other) if each.moments is not None]
    labelled = tuple(
        replace(table, abundance=own.abundance, cell_types=own.cell_types)
        for own, table in zip(wanted, tables, strict=True)
    )
    both = FeatureMatrix(
        np.concatenate([upright.values, other.values]),
        replace(layout, spots=(*layout.spots, *labelled)),
        np.concatenate(parts) if parts else None,
    )
    place = {table.slide: len(spots) + at for at, table in enumerate(tables)}
    found = tuple(
        run_fold(
            both,
            Fold(tuple(place[spots[i].slide] for i in fold.held_out), fold.training, fold.group),
            setup,
            jobs,
        )
        for fold in folds
    )
    return CrossValidation(setup, found, 0.0, (setup.seed,), layout.spots)
