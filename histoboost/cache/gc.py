"""Remove what killed runs left staged, and nothing that a live run owns."""

from __future__ import annotations

from dataclasses import dataclass

from histoboost.cache.backend import Place
from histoboost.cache.layout import STAGING

#: Where nothing tells whether the owner lives, staged files younger than this are kept.
OLDER_THAN_S = 24 * 3600.0


@dataclass(frozen=True)
class Collected:
    """What `collect` removed and what it kept.

    Attributes
    ----------
    removed : int
        Number of staging areas.
    removed_bytes : int
    kept : int
        Number of staging areas that a live run owns, or may own.
    """

    removed: int
    removed_bytes: int
    kept: int


def collect(place: Place, older_than_s: float = OLDER_THAN_S) -> Collected:
    """Remove the staging areas of `place` that no live run owns.

    Parameters
    ----------
    place : Place
        The store's.
    older_than_s : float
        On object stores and on systems without locks: how long nothing must have changed there,
        in seconds. A local file system knows who lives.
    """
    removed = size = kept = 0
    for staging in place.folders(STAGING):
        found = sum(place.walk(f"{STAGING}/{staging}").values())
        held = place.abandoned(staging, older_than_s)
        if held is None:
            kept += 1
            continue
        held.drop()
        removed += 1
        size += found
    return Collected(removed, size, kept)
