"""An identifier that follows from a prediction, so that the same file is written twice alike."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from histoboost.digests import digest_array

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

#: So that ids are ours and no one else's.
_NAMESPACE = uuid.UUID("6f0d9d2c-0f1b-5d0b-9a53-6c1d1c3a7e10")


def prediction_id(prediction: Prediction) -> uuid.UUID:
    """Of a slide and what is predicted there."""
    return uuid.uuid5(_NAMESPACE, f"{prediction.slide}\n{digest_array(prediction.values)}")
