"""Micrometres per pixel: what files say, where it can be true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.spots import spot_pitch

#: Centre to centre distance of Visium spots in um.
PITCH_UM = 100.0

#: What ``spot_diameter_fullres`` may span in um. 10x Genomics documents "a theoretical 65 um
#: spot"; the spots printed on the slide measure 55 um, and files made by other tools use that.
DIAMETERS_UM = (65.0, 55.0)

#: Largest relative deviation of the spot distance from `PITCH_UM` that still looks like Visium.
TOLERANCE = 0.1

#: Scales of slides in um/px. Resolution tags say 353 (72 dpi), 265 (96 dpi) or 85 (300 dpi).
MIN_UM, MAX_UM = 0.01, 50.0


def checked_scale(value: object, where: object) -> float | None:
    """Micrometres per pixel as a file says, or None, with a warning where they cannot be true."""
    try:
        um = float(str(value))
    except ValueError:
        um = -1.0
    if value is None or math.isnan(um):
        return None
    if not MIN_UM < um < MAX_UM:
        warn(f"{where}: says {value} um/px, which cannot be; the scale is taken as unknown")
        return None
    return um


def um_per_px(
    scalefactors: Mapping[str, Any], xy: NDArray[np.float64], where: str, *, visium: bool
) -> float | None:
    """Micrometres per pixel of the full-resolution image; None where the scale is unknown.

    `scalefactors`, the content of ``scalefactors_json.json``, say ``microns_per_pixel``, else
    ``spot_diameter_fullres``; NaN, as our own exports write it, says that it is unknown. The
    distance of the spots `xy` (N, 2), also those off the tissue, which is 100 um, tells whether the
    diameter spans 65 um or 55 um. A distance that fits neither is a warning on a slide that is
    known to be `visium`; on others the scale is unknown.
    """
    microns = scalefactors.get("microns_per_pixel")
    if microns is not None:
        return checked_scale(microns, where)
    diameter = float(scalefactors.get("spot_diameter_fullres") or 0.0)
    if not 0 < diameter < math.inf:
        return None
    pitch = spot_pitch(xy)
    if not pitch:
        return checked_scale(DIAMETERS_UM[0] / diameter, where) if visium else None
    scales = [um / diameter for um in DIAMETERS_UM]
    best = min(scales, key=lambda scale: abs(pitch * scale - PITCH_UM))
    if abs(pitch * best - PITCH_UM) > TOLERANCE * PITCH_UM:
        if not visium:
            return None
        warn(
            f"{where}: by its spot diameter of {diameter:g} px the spots lie {pitch * best:.0f} um "
            f"apart where Visium's lie {PITCH_UM:.0f} um apart; micrometres may be wrong"
        )
    return checked_scale(best, where)
