"""Remove what killed runs left staged, and nothing that a live run owns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from histoboost.cache.backend import Backend
from histoboost.cache.layout import STAGING
from histoboost.cache.pending import LABELS_NOTE
from histoboost.errors import BadInput

#: Where nothing tells whether the owner lives, staged files younger than this are kept.
OLDER_THAN_S = 24 * 3600.0

# How this package calls what it stages.
_OURS = re.compile(r"[a-z]+-[0-9a-f]{32}")


@dataclass(frozen=True)
class Collected:
    """How many staging areas were removed, with how many bytes, and how many were kept.

    Kept are those that a live run owns, or may own, and what is foreign or cannot be removed.
    """

    removed: int
    removed_bytes: int
    kept: int


def collect(backend: Backend, older_than_s: float = OLDER_THAN_S) -> Collected:
    """Remove the staging areas that no live run owns.

    On object stores and on systems without locks nothing must have changed in them for
    `older_than_s` seconds; a local file system knows who lives. That a relabelling was cut off is
    not forgotten: the slides' labels would be mixed without a word.
    """
    removed = size = kept = 0
    for staging in backend.folders(STAGING):
        folder = f"{STAGING}/{staging}"
        try:
            found = sum(backend.walk(folder).values())
            unfinished = backend.read(f"{folder}/{LABELS_NOTE}") is not None
            keep = unfinished or not _OURS.fullmatch(staging)
            held = None if keep else backend.abandoned(staging, older_than_s)
        except BadInput:  # not ours to open
            held = None
        if held is None:
            kept += 1
            continue
        held.drop()
        removed += 1
        size += found
    return Collected(removed, size, kept)
