"""Read every byte of a store and say what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from histoboost.cache.backend import Place
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    STAGING,
    Damaged,
    slide_key,
    store_documents,
    unit_key,
)
from histoboost.cache.published import damaged_chunks, foreign_files, open_unit
from histoboost.cache.table import (
    SlideRecord,
    embedding_names,
    foreign_entries,
    open_slide,
    read_files,
    slide_names,
)
from histoboost.progress import progress

_SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """One damaged thing.

    Attributes
    ----------
    slide : str or None
        None where the store's own documents are damaged.
    embedding : str or None
        None where the slide's spot table is damaged.
    reason : str
        What is wrong, in a few words.
    """

    slide: str | None
    embedding: str | None
    reason: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    checked : int
        Number of spot tables and embeddings that were read.
    damaged : tuple of Damage
        One for each damaged spot table, embedding and document of the store.
    """

    checked: int
    damaged: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """``{"checked": n, "damaged": [{"slide", "embedding", "reason"}]}``."""
        return {"checked": self.checked, "damaged": [asdict(damage) for damage in self.damaged]}


def verify(place: Place) -> Verification:
    """Read every byte of the store at `place` and compare it with its digest."""
    damaged = list(_check_store(place))
    slides = slide_names(place)
    checked = 0
    with progress("Verifying", len(slides), "slides") as advance:
        for slide in slides:
            found = list(_check_slide(place, slide))
            checked += len(found)
            damaged += [damage for damage in found if damage.reason]
            advance(1)
    return Verification(checked, tuple(damaged))


def _check_store(place: Place) -> Iterator[Damage]:
    for key, expected in store_documents().items():
        data = place.read(key)
        if data != expected:
            state = "is missing" if data is None else "is not as written"
            yield Damage(None, None, f"{key} {state}")
    for path in foreign_in_store(place):
        yield Damage(None, None, f"{path} is foreign")
    for path in place.links():
        yield Damage(None, None, f"{path} is a link")


def foreign_in_store(place: Place) -> list[str]:
    """Keys beside the slides that do not belong into a store."""
    top = set(place.children("")) - {ROOT_DOCUMENT, SLIDES, STAGING}
    # The order matters: a slide that another process publishes meanwhile is no stranger.
    below = set(place.children(SLIDES)) - {ROOT_DOCUMENT}
    below = {name for name in below if not place.in_progress(slide_key(name))}
    below -= set(slide_names(place))
    return sorted(top) + [f"{SLIDES}/{name}" for name in sorted(below)]


def _check_slide(place: Place, slide: str) -> Iterator[Damage]:
    """One entry for the table and one for each embedding; without a reason where it is whole."""
    try:
        record = open_slide(place, slide)
    except Damaged as damage:
        if place.in_progress(slide_key(slide)):
            return
        yield Damage(slide, None, str(damage))
        record = SlideRecord(slide, 0, 0, "", {})
    else:
        yield Damage(slide, None, _check_table(place, record))
    for name in embedding_names(place, record):
        if not place.in_progress(unit_key(slide, name)):
            yield Damage(slide, name, _check_unit(place, slide, name))


def _check_table(place: Place, record: SlideRecord) -> str:
    try:
        read_files(place, record)
    except Damaged as damage:
        return str(damage)
    return _brief([f"{path} is foreign" for path in foreign_entries(place, record)])


def _check_unit(place: Place, slide: str, name: str) -> str:
    try:
        unit = open_unit(place, slide, name)
    except Damaged as damage:
        return str(damage)
    chunks = [f"chunk {index} {what}" for index, what in damaged_chunks(place, unit).items()]
    return _brief(chunks + [f"{path} is foreign" for path in foreign_files(place, unit)])


def _brief(reasons: list[str]) -> str:
    more = len(reasons) - _SHOWN
    return "; ".join(reasons[:_SHOWN] + ([f"and {more} more"] if more > 0 else []))
