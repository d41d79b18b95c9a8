"""What a run was to store or relabel, so that what a kill left undone is known."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from histoboost.cache.backend import Backend, Hold
from histoboost.cache.layout import STAGING, Damaged
from histoboost.cache.table import is_slide, open_slide
from histoboost.digests import digest_bytes
from histoboost.errors import DamagedStore

#: In a staging folder of a run: the slides that it is to store.
SLIDES_NOTE = "asked.json"

#: In that of a writer: which embedding it is of.
EMBEDDING_NOTE = "unit.json"

#: In that of a relabelling: slides to the digest that their tables are to have.
LABELS_NOTE = "relabel.json"


def note_slides(backend: Backend, slides: Sequence[str]) -> Hold:
    """Note the slides that a run is to store. Dropping the hold takes the note away."""
    return _note(backend, "asked", SLIDES_NOTE, list(slides))


def note_labels(backend: Backend, digests: Mapping[str, str]) -> Hold:
    """Note the digest that each table is to have once it is relabelled."""
    return _note(backend, "relabel", LABELS_NOTE, dict(digests))


def _note(backend: Backend, kind: str, file: str, content: Any) -> Hold:
    """Stage a note; the same content is the same note, so that the same command resumes it."""
    note = json.dumps(content).encode()
    staging = f"{kind}-{digest_bytes(note)[:32]}"
    held = backend.hold(staging)
    backend.put(f"{STAGING}/{staging}/{file}", note)
    return held


def staged_notes(backend: Backend, file: str) -> Iterator[tuple[str, Any]]:
    """Key and content of every staged note of this name; what cannot be read is for `gc`."""
    for staging in backend.folders(STAGING):
        key = f"{STAGING}/{staging}/{file}"
        try:
            yield key, json.loads(backend.read(key) or b"")
        except (ValueError, RecursionError):
            continue  # of another kind, just taken away, or cut off by a crash


def pending_slides(backend: Backend) -> list[str]:
    """Slides of runs that have not finished, less those that are there."""
    notes = [note for _, note in staged_notes(backend, SLIDES_NOTE) if isinstance(note, list)]
    found = dict.fromkeys(slide for note in notes for slide in note if isinstance(slide, str))
    return [slide for slide in found if not is_slide(backend, slide)]


def pending_labels(backend: Backend) -> list[str]:
    """Slides that a relabelling has not reached, or only half, sorted."""
    return sorted(
        {
            slide
            for _, note in staged_notes(backend, LABELS_NOTE)
            if isinstance(note, dict)
            for slide, digest in note.items()
            if not _is_at(backend, slide, digest)
        }
    )


def _is_at(backend: Backend, slide: str, digest: str) -> bool:
    try:
        return open_slide(backend, slide).table_digest == digest
    except Damaged:
        return False


def forget_labels(backend: Backend, slides: Collection[str]) -> None:
    """Take slides that have been relabelled since out of older notes."""
    for key, note in staged_notes(backend, LABELS_NOTE):
        if isinstance(note, dict) and not note.keys().isdisjoint(slides):
            rest = {slide: digest for slide, digest in note.items() if slide not in slides}
            backend.put(key, json.dumps(rest).encode()) if rest else backend.delete(key)


def damaged_store(backend: Backend, slide: str, name: str | None, reason: str) -> DamagedStore:
    """The error that names a damaged slide, or its embedding `name`, and what repairs it."""
    what = f"slide {slide}" if name is None else f"slide {slide}, embedding {name}"
    labels = name is None and slide in pending_labels(backend)
    return DamagedStore(
        f"{backend}: {what}: {reason}; run the same {'cache relabel' if labels else 'featurize'} "
        "again to repair it, or remove it"
    )
