"""Give stored slides other labels: the spots and their embeddings stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from histoboost.cache.backend import Place
from histoboost.cache.layout import ROOT_DOCUMENT, Damaged, slide_key
from histoboost.cache.spot_files import decode_table
from histoboost.cache.table import encode_slide, open_slide, put_in_place, read_files, read_table
from histoboost.errors import BadInput
from histoboost.spots import SpotTable

#: Where a slide's folder holds its labels; nothing else of a spot table lies there.
_FOLDERS = ("obsm/abundance/", "uns/cell_types/", "uns/split/", "uns/group/")


def relabelled(place: Place, table: SpotTable) -> SpotTable:
    """The stored spots of a slide with the labels of `table`; nothing is written.

    A group that `table` does not tell stays. Labels that a killed run left half written do not
    matter.

    Raises
    ------
    Damaged
        If anything but the labels is not as written.
    HistoboostError
        If `table` has other spots, another image size or another scale.
    """
    record = open_slide(place, table.slide)
    labels = _FOLDERS if table.group is not None else _FOLDERS[:-1]
    rest = {path: digest for path, digest in record.files.items() if not path.startswith(labels)}
    files = read_files(place, replace(record, files=rest))
    root = place.read(f"{slide_key(table.slide)}/{ROOT_DOCUMENT}") or b""
    stored = decode_table(table.slide, {**files, ROOT_DOCUMENT: root})
    differences = stored.with_labels(None).differences(table.with_labels(None))
    if differences:
        raise BadInput(
            f"{place}: slide {table.slide}: {'; '.join(differences)}; only labels can be replaced, "
            "embed these spots into another store"
        )
    return stored.with_labels(table.with_group_of(stored))


def write_labels(place: Place, table: SpotTable) -> list[str]:
    """Store the labels of a slide, from `relabelled`.

    A reader that comes between the first file and the last finds the slide damaged, never half
    of the labels; after a kill the same call completes it.

    Returns
    -------
    list of str
        What has changed, a few words each; empty if these labels were there already.
    """
    record = open_slide(place, table.slide)
    try:
        stored = read_table(place, record)
        if record.table_digest == table.digest:
            return []
        changes = _changes(stored, table)
    except Damaged:
        changes = ["completed"]
    folder = slide_key(table.slide)
    files, document = encode_slide(table, record.order)
    for labels in _FOLDERS:
        walked = place.walk(f"{folder}/{labels}"[:-1])
        for path in walked:
            parts = path.split("/")
            if parts[-1] != ROOT_DOCUMENT and "c" not in parts:  # no part of an array
                raise BadInput(
                    f"{place}: slide {table.slide}: {labels}{path} is not of histoboost; move it "
                    "elsewhere"
                )
    for labels in _FOLDERS:
        if any(f"{labels}{path}" not in files for path in place.walk(f"{folder}/{labels}"[:-1])):
            place.remove_folder(f"{folder}/{labels}"[:-1])
    put_in_place(place, folder, files, document)
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
