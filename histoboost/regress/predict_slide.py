"""Predict one slide with a trained model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from histoboost.errors import BadInput
from histoboost.regress.baselines import CONSTANTS, slide_scores
from histoboost.regress.features import Features
from histoboost.regress.fitting import Predictor, warn_if_constant
from histoboost.regress.intervals import Residuals
from histoboost.regress.predictions import Prediction
from histoboost.regress.setup import Setup
from histoboost.regress.units import to_units


def predict_slide(
    predictor: Predictor,
    setup: Setup,
    cell_types: Sequence[str],
    matrix: Features,
    units: str,
    interval: float | None = None,
    residuals: Residuals | None = None,
) -> Prediction:
    """Predict the single slide of a matrix; see `CompositionRegressor.predict`."""
    [table] = matrix.layout.spots
    raw = predictor.predict_slide(matrix, 0)
    if setup.model not in CONSTANTS:
        warn_if_constant(to_units(raw, "none", predictor.target), f"slide {table.slide}")
    values = to_units(raw, units, predictor.target)
    if not np.isfinite(values).all():
        raise BadInput(f"slide {table.slide}: predictions are not finite; train again")
    low, high = None, None
    if interval is not None and residuals is not None:
        low, high = residuals.bounds(values, interval, units, predictor.target)
    scores = slide_scores(raw, table, tuple(cell_types), predictor.target)
    return Prediction(table, tuple(cell_types), values, units, low, high, scores)
