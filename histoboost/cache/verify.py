"""Read every byte of a store and report damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.foreign import foreign_in_embedding, foreign_in_store, foreign_in_table
from histoboost.cache.layout import Damaged, store_documents
from histoboost.cache.published_embedding import damaged_chunks, open_published
from histoboost.cache.spot_files import check_shapes
from histoboost.cache.table import (
    SlideRecord,
    embedding_names,
    open_slide,
    read_files,
    slide_names,
)
from histoboost.errors import BadInput
from histoboost.progress import progress

_SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """One damaged item and what is wrong, in a few words.

    `slide` is None for documents of the root, `embedding` for the spot table of a slide.
    """

    slide: str | None
    embedding: str | None
    reason: str


@dataclass(frozen=True)
class Verification:
    """Number of spot tables and embeddings read, and the damage found."""

    checked: int
    damaged: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """``{"checked": n, "damaged": [{"slide", "embedding", "reason"}]}``."""
        return {"checked": self.checked, "damaged": [asdict(damage) for damage in self.damaged]}


def verify(backend: Backend) -> Verification:
    """Compare every file of a store with its digest."""
    damaged = list(_check_store(backend))
    slides = slide_names(backend)
    checked = 0
    with progress("Verifying", len(slides), "slides") as advance:
        for slide in slides:
            try:
                found = list(_check_slide(backend, slide))
            except BadInput as error:  # unreadable folder or newer version
                found = [Damage(slide, None, str(error))]
            checked += len(found)
            damaged += [damage for damage in found if damage.reason]
            advance(1)
    return Verification(checked, tuple(damaged))


def _check_store(backend: Backend) -> Iterator[Damage]:
    for key, expected in store_documents().items():
        data = backend.read(key)
        if data != expected:
            state = backend.fault(key) if data is None else "differs from what was written"
            yield Damage(None, None, f"{key} {state}")
    for path in foreign_in_store(backend):
        yield Damage(None, None, f"{path} is foreign")
    for path in backend.links():
        yield Damage(None, None, f"{path} is a link")


def _check_slide(backend: Backend, slide: str) -> Iterator[Damage]:
    """One entry for the table and each embedding; intact ones without a reason."""
    try:
        record = open_slide(backend, slide)
    except Damaged as damage:
        yield Damage(slide, None, str(damage))
        record = SlideRecord(slide, 0, 0, "", {})
    else:
        yield Damage(slide, None, _check_table(backend, record))
    for name in embedding_names(backend, slide):
        yield Damage(slide, name, _check_embedding(backend, record, name))


def _check_table(backend: Backend, record: SlideRecord) -> str:
    try:
        check_shapes(read_files(backend, record))
    except Damaged as damage:
        return str(damage)
    return _brief([f"{path} is foreign" for path in foreign_in_table(backend, record)])


def _check_embedding(backend: Backend, record: SlideRecord, name: str) -> str:
    try:
        published = open_published(backend, record.slide, name)
    except Damaged as damage:
        return str(damage)
    if record.files and published.shape[0] != record.n_spots:
        return f"has {published.shape[0]} rows for {record.n_spots} spots"
    chunks = damaged_chunks(backend, published)
    foreign = foreign_in_embedding(backend, record.slide, name)
    return _brief(
        [f"chunk {index} {what}" for index, what in chunks.items()]
        + [f"{path} is foreign" for path in foreign]
    )


def _brief(reasons: list[str]) -> str:
    more = len(reasons) - _SHOWN
    return "; ".join(reasons[:_SHOWN] + ([f"and {more} more"] if more > 0 else []))
