"""Micrometres per pixel of a Visium slide, from what its scale factors say."""

from __future__ import annotations

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


def um_per_px(
    scalefactors: Mapping[str, Any], xy: NDArray[np.float64], where: str, *, visium: bool
) -> float | None:
    """Micrometres per pixel of the full-resolution image.

    Parameters
    ----------
    scalefactors : mapping
        Content of ``scalefactors_json.json``: ``microns_per_pixel`` where there is one, else
        ``spot_diameter_fullres``. NaN, as our own exports write it, says that it is unknown.
    xy : ndarray of shape (N, 2), float64
        All spots in full-resolution pixels, also those off the tissue. Their distance, 100 um,
        tells whether the diameter spans 65 um or 55 um.
    where : str
        The slide, for the message.
    visium : bool
        Whether the slide is known to be Visium. If so, a distance that fits neither diameter is
        a warning; if not, the scale is unknown.

    Returns
    -------
    float or None
        None where the scale is unknown.
    """
    microns = scalefactors.get("microns_per_pixel")
    if microns is not None:
        return float(microns) if float(microns) > 0 else None
    diameter = float(scalefactors.get("spot_diameter_fullres") or 0.0)
    if not diameter > 0:
        return None
    pitch = spot_pitch(xy)
    if pitch is None or pitch == 0:
        return DIAMETERS_UM[0] / diameter if visium else None
    scales = [um / diameter for um in DIAMETERS_UM]
    best = min(scales, key=lambda scale: abs(pitch * scale - PITCH_UM))
    if abs(pitch * best - PITCH_UM) > TOLERANCE * PITCH_UM:
        if not visium:
            return None
        warn(
            f"{where}: by its spot diameter of {diameter:g} px the spots lie {pitch * best:.0f} um "
            f"apart where Visium's lie {PITCH_UM:.0f} um apart; micrometres may be wrong"
        )
    return best
