"""Remove staged files of killed runs, never those of live ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from histoboost.cache.backend import Backend
from histoboost.cache.layout import STAGING
from histoboost.cache.pending import LABELS_NOTE
from histoboost.errors import BadInput

#: Minimum age of staged files to remove if the state of their owner is unknown.
OLDER_THAN_S = 24 * 3600.0

# Names of our staging folders.
_OURS = re.compile(r"[a-z]+-[0-9a-f]{32}")


@dataclass(frozen=True)
class Collected:
    """Number of staging folders removed, their bytes, and the number kept.

    Folders are kept if a live run owns or may own them, or if they are foreign or unremovable.
    """

    removed: int
    removed_bytes: int
    kept: int


def collect(backend: Backend, older_than_s: float = OLDER_THAN_S) -> Collected:
    """Remove the staging folders that no live run owns.

    Object stores and systems without locks cannot tell: there, nothing in a folder must have
    changed for `older_than_s` seconds. Notes of an interrupted relabelling are kept, or mixed
    labels would go unnoticed.
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
