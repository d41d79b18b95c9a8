"""Micrometres per pixel: from metadata, if plausible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import warn
from histoboost.spots import spot_pitch

#: Centre-to-centre distance of Visium spots in um.
PITCH_UM = 100.0

#: What ``spot_diameter_fullres`` may span in um. 10x Genomics documents "a theoretical 65 um
#: spot"; the spots printed on the slide measure 55 um, and files made by other tools use that.
DIAMETERS_UM = (65.0, 55.0)

#: Largest relative deviation of the spot pitch from `PITCH_UM` that still looks like Visium.
TOLERANCE = 0.1

#: Plausible scales in um/px. Resolution tags give 353 (72 dpi), 265 (96 dpi) or 85 (300 dpi).
MIN_UM, MAX_UM = 0.01, 50.0


def checked_scale(value: object, where: object) -> float | None:
    """Micrometres per pixel from the metadata; None, with a warning, if implausible."""
    try:
        um = float(str(value))
    except ValueError:
        um = -1.0
    if value is None or math.isnan(um):
        return None
    if not MIN_UM < um < MAX_UM:
        warn(f"{where}: {value} um/px is implausible; the scale is taken as unknown")
        return None
    return um


def um_per_px(
    scalefactors: Mapping[str, Any], xy: NDArray[np.float64], where: str, *, visium: bool
) -> float | None:
    """Micrometres per pixel of the full-resolution image; None if unknown.

    Taken from ``microns_per_pixel`` in `scalefactors`, the content of ``scalefactors_json.json``
    (NaN means unknown), else from ``spot_diameter_fullres``: the pitch of the spots `xy` (N, 2),
    including those off the tissue, decides whether the diameter spans 65 um or 55 um. A pitch that
    fits neither gives a warning on a `visium` slide; on others the scale is unknown.
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
            f"{where}: its spot diameter of {diameter:g} px implies a spot pitch of "
            f"{pitch * best:.0f} um, but Visium's is {PITCH_UM:.0f} um; micrometres may be wrong"
        )
    return checked_scale(best, where)
