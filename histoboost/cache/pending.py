"""Notes of running commands in the store, which reveal what an interrupted one left undone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from histoboost.cache.backend import Backend, Hold
from histoboost.cache.layout import STAGING, Damaged
from histoboost.cache.table import is_slide, open_slide
from histoboost.digests import digest_bytes
from histoboost.errors import DamagedStore

#: Slides that a run will store, in its staging folder.
SLIDES_NOTE = "asked.json"

#: Embedding that a writer stages.
EMBEDDING_NOTE = "unit.json"

#: Slides that a relabelling changes, with the new digests of their tables.
LABELS_NOTE = "relabel.json"


def note_slides(backend: Backend, slides: Sequence[str]) -> Hold:
    """Note the slides that a run will store; dropping the hold deletes the note."""
    return _note(backend, "asked", SLIDES_NOTE, list(slides))


def note_labels(backend: Backend, digests: Mapping[str, str]) -> Hold:
    """Note the digests that tables will have once relabelled."""
    return _note(backend, "relabel", LABELS_NOTE, dict(digests))


def _note(backend: Backend, kind: str, file: str, content: Any) -> Hold:
    """Stage a note, named by its content so that the same command finds it again."""
    note = json.dumps(content).encode()
    staging = f"{kind}-{digest_bytes(note)[:32]}"
    held = backend.hold(staging)
    backend.put(f"{STAGING}/{staging}/{file}", note)
    return held


def staged_notes(backend: Backend, file: str) -> Iterator[tuple[str, Any]]:
    """Key and content of every readable staged note of this name."""
    for staging in backend.folders(STAGING):
        key = f"{STAGING}/{staging}/{file}"
        try:
            yield key, json.loads(backend.read(key) or b"")
        except (ValueError, RecursionError):
            continue  # of another kind, just deleted, or truncated by a crash


def pending_slides(backend: Backend) -> list[str]:
    """Slides of unfinished runs that are not stored yet."""
    notes = [note for _, note in staged_notes(backend, SLIDES_NOTE) if isinstance(note, list)]
    found = dict.fromkeys(slide for note in notes for slide in note if isinstance(slide, str))
    return [slide for slide in found if not is_slide(backend, slide)]


def pending_labels(backend: Backend) -> list[str]:
    """Slides that an interrupted relabelling has not completed, sorted."""
    return sorted(
        {
            slide
            for _, note in staged_notes(backend, LABELS_NOTE)
            if isinstance(note, dict)
            for slide, digest in note.items()
            if not _has_digest(backend, slide, digest)
        }
    )


def _has_digest(backend: Backend, slide: str, digest: str) -> bool:
    try:
        return open_slide(backend, slide).table_digest == digest
    except Damaged:
        return False


def forget_labels(backend: Backend, slides: Collection[str]) -> None:
    """Remove relabelled slides from older notes."""
    for key, note in staged_notes(backend, LABELS_NOTE):
        if isinstance(note, dict) and not note.keys().isdisjoint(slides):
            rest = {slide: digest for slide, digest in note.items() if slide not in slides}
            backend.put(key, json.dumps(rest).encode()) if rest else backend.delete(key)


def damaged_store(backend: Backend, slide: str, name: str | None, reason: str) -> DamagedStore:
    """Build the error for a damaged slide, or its embedding `name`, with the remedy."""
    what = f"slide {slide}" if name is None else f"slide {slide}, embedding {name}"
    labels = name is None and slide in pending_labels(backend)
    return DamagedStore(
        f"{backend}: {what}: {reason}; run the same {'cache relabel' if labels else 'featurize'} "
        "again to repair it, or remove it"
    )
