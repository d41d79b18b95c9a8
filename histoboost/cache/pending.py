"""Which slides a run was asked for, so that those which never came after a kill are known."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from histoboost.cache.backend import Hold, Place
from histoboost.cache.layout import STAGING
from histoboost.digests import digest_bytes

#: In a staging folder of a run: the slides that it is to store.
NOTE = "asked.json"


def ask(place: Place, slides: Sequence[str]) -> Hold:
    """Note the slides that a run is to store. Dropping the hold takes the note away.

    The same slides make the same note, so that running a command again goes on with it.
    """
    note = json.dumps(list(slides)).encode()
    staging = f"asked-{digest_bytes(note)[:32]}"
    held = place.hold(staging)
    place.put(f"{STAGING}/{staging}/{NOTE}", note)
    return held


def awaited(place: Place, there: Collection[str]) -> list[str]:
    """Slides of runs that have not finished, less those that are `there`."""
    found: dict[str, None] = {}
    for staging in place.folders(STAGING):
        note = place.read(f"{STAGING}/{staging}/{NOTE}")
        if note is not None:  # else it was not a run's, or has just been taken away
            found.update(dict.fromkeys(json.loads(note)))
    return [slide for slide in found if slide not in there]
