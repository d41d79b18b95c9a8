"""Replace the labels of stored slides, keeping spots and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from histoboost.cache.backend import Backend
from histoboost.cache.layout import ROOT_DOCUMENT, Damaged, slide_key
from histoboost.cache.pending import forget_labels, note_labels
from histoboost.cache.table import encode_slide, open_slide, put_in_place, read_table
from histoboost.errors import BadInput
from histoboost.spots import SpotTable

#: Folders of a slide that contain labels and nothing else.
_FOLDERS = ("obsm/abundance/", "uns/cell_types/", "uns/split/", "uns/group/")


def with_labels(backend: Backend, table: SpotTable) -> SpotTable:
    """Combine the stored spots of a slide with the labels of `table`, without writing.

    The stored group stays if `table` has none. Different spots are refused. Raises `Damaged` if
    anything but the labels, which a killed run may have left half written, is damaged.
    """
    record = open_slide(backend, table.slide)
    labels = _FOLDERS if table.group is not None else _FOLDERS[:-1]
    rest = {path: digest for path, digest in record.files.items() if not path.startswith(labels)}
    stored = read_table(backend, replace(record, files=rest))
    differences = stored.with_labels(None).differences(table.with_labels(None))
    if differences:
        raise BadInput(
            f"{backend}: slide {table.slide}: {'; '.join(differences)}; only labels can be "
            "replaced, embed these spots into a different store"
        )
    return stored.with_labels(table.with_group_of(stored))


def relabel(backend: Backend, tables: Sequence[SpotTable]) -> dict[str, list[str]]:
    """Store tables from `with_labels`; returns the changes of each slide that has any.

    A note in the store reveals a run that was interrupted between two slides: see
    `pending.pending_labels`.
    """
    held = note_labels(backend, {table.slide: table.digest for table in tables})
    try:
        changes = {table.slide: _write_labels(backend, table) for table in tables}
    except BaseException:
        held.release()
        raise
    forget_labels(backend, list(changes))
    held.drop()
    return {slide: changed for slide, changed in changes.items() if changed}


def _write_labels(backend: Backend, table: SpotTable) -> list[str]:
    """Store the labels of a slide, from `with_labels`; returns what has changed, a few words each.

    Between the first file and the last, readers find a damaged slide, never half of the labels;
    after a kill the same call completes it.
    """
    record = open_slide(backend, table.slide)
    try:
        stored = read_table(backend, record)
        if record.table_digest == table.digest:
            return []
        changes = _changes(stored, table)
    except Damaged:
        changes = ["completed"]
    folder = slide_key(table.slide)
    files, document = encode_slide(table, record.order)
    stored_paths = {labels: backend.walk(f"{folder}/{labels}"[:-1]) for labels in _FOLDERS}
    for path in (f"{labels}{path}" for labels, paths in stored_paths.items() for path in paths):
        parts = path.split("/")
        if parts[-1] != ROOT_DOCUMENT and "c" not in parts:  # no part of an array
            raise BadInput(
                f"{backend}: slide {table.slide}: {path} was not written by histoboost; move it "
                "elsewhere"
            )
    for labels, paths in stored_paths.items():
        if any(f"{labels}{path}" not in files for path in paths):
            backend.remove_folder(f"{folder}/{labels}"[:-1])
    put_in_place(backend, folder, files, document)
    return changes


def _changes(before: SpotTable, after: SpotTable) -> list[str]:
    found = []
    types = ("cell_types",) if before.labelled and after.labelled else ()
    for name in ("abundance", *types, "split", "group"):
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None:
            verb = "" if old is new else "removed" if new is None else "added"
        else:
            verb = "" if np.array_equal(old, new) else "changed"
        if verb:
            found.append(f"{name.replace('_', ' ')} {verb}")
    return found
