"""Reproducible identifiers, so that writing the same predictions twice gives the same file."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from histoboost.digests import digest_array

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

_NAMESPACE = uuid.UUID("6f0d9d2c-0f1b-5d0b-9a53-6c1d1c3a7e10")


def prediction_id(prediction: Prediction) -> uuid.UUID:
    """Derive an identifier from the name of the slide and the predicted values."""
    return uuid.uuid5(_NAMESPACE, f"{prediction.slide}\n{digest_array(prediction.values)}")
