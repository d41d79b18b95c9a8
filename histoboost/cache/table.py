"""A slide's spot table in the store: write it once, read it back, repair it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from histoboost.cache.backend import Place
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    Damaged,
    bears_mark,
    is_foreign_document,
    seal,
    slide_document,
    slide_key,
    unseal,
)
from histoboost.cache.published import strangers
from histoboost.cache.spot_files import decode_table, encode_table
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput
from histoboost.names import is_embedding_name, is_slide_name
from histoboost.spots import SpotTable

#: What lies directly in a slide's folder: the elements of an AnnData.
_PARTS = (ROOT_DOCUMENT, "obs", "obsm", "obsp", "var", "varm", "varp", "layers", "raw", "uns")

# Writing once is enough unless other processes interfere.
_ATTEMPTS = 5


@dataclass(frozen=True)
class SlideRecord:
    """What a slide's metadata says.

    Attributes
    ----------
    slide : str
    order : int
        Slides are listed by it.
    n_spots : int
    table_digest : str
        SHA-256 over everything in the table.
    files : dict
        Path below the slide's folder of every file of the spot table, to its SHA-256.
    """

    slide: str
    order: int
    n_spots: int
    table_digest: str
    files: dict[str, str]

    def owns(self, name: str) -> bool:
        """Whether the array `name` in ``obsm`` belongs to the spot table."""
        return f"obsm/{name}/{ROOT_DOCUMENT}" in self.files


def open_slide(place: Place, slide: str) -> SlideRecord:
    """Read a slide's metadata.

    Raises
    ------
    Damaged
        If it is missing or not as written.
    """
    document = unseal(place.read(f"{slide_key(slide)}/{ROOT_DOCUMENT}"))
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        numbers = int(own["order"]), int(own["n_spots"])
        return SlideRecord(slide, *numbers, str(own["table_digest"]), dict(own["files"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json is not of a slide") from error


def read_files(place: Place, record: SlideRecord) -> dict[str, bytes]:
    """The files of a slide's spot table, every byte compared with its digest.

    Raises
    ------
    Damaged
        If a file is missing or not as written.
    """
    keys = [f"{slide_key(record.slide)}/{path}" for path in record.files]
    files = {}
    for (path, digest), data in zip(record.files.items(), place.read_many(keys), strict=True):
        if data is None:
            raise Damaged(f"{path} is missing")
        if digest_bytes(data) != digest:
            raise Damaged(f"{path} does not match its digest")
        files[path] = data
    return files


def read_table(place: Place, record: SlideRecord) -> SpotTable:
    """A slide's spots.

    Raises
    ------
    Damaged
        If a file is missing or not as written.
    """
    files = read_files(place, record)
    root = place.read(f"{slide_key(record.slide)}/{ROOT_DOCUMENT}") or b""
    return decode_table(record.slide, {**files, ROOT_DOCUMENT: root})


def write_table(place: Place, table: SpotTable, order: int | None = None) -> None:
    """Store a slide's spots, or put back what of them is damaged.

    Parameters
    ----------
    place : Place
        Of the store.
    table : SpotTable
        The spots.
    order : int, optional
        Where a new slide stands among the slides, from `next_orders`; by default the last.

    Raises
    ------
    HistoboostError
        If other spots are stored for the slide.
    """
    for _ in range(_ATTEMPTS):
        try:
            record = open_slide(place, table.slide)
            read_files(place, record)
        except Damaged:
            _write(place, table, order)
            continue  # look at what is stored now, by this process or a quicker one
        if record.table_digest != table.digest:
            stored = read_table(place, record)
            _refuse_others(place, stored, table.with_group_of(stored))
        return
    raise BadInput(
        f"{place}: slide {table.slide} does not read back as it was written; check the disk"
    )


def _refuse_others(place: Place, stored: SpotTable, table: SpotTable) -> None:
    differences = stored.differences(table)
    if not differences:
        return
    if stored.with_labels(None).differences(table.with_labels(None)):
        remedy = "use another store, or remove the slide with its embeddings first"
    else:
        remedy = f"histoboost cache relabel {place} DATA stores these and keeps the embeddings"
    raise BadInput(
        f"{place}: slide {table.slide} is stored with another table: "
        f"{'; '.join(differences)}; {remedy}"
    )


def foreign_entries(place: Place, record: SlideRecord) -> list[str]:
    """Paths in a slide's folder that belong neither to its table nor to an embedding."""
    known = {ROOT_DOCUMENT, *record.files}
    paths = [path for path in place.walk(slide_key(record.slide)) if path not in known]
    # From this one listing: a second one could lack what another process publishes meanwhile.
    units = {_unit_folder(path) for path in paths} - {None}
    return [path for path in paths if "/".join(path.split("/")[:2]) not in units]


def slide_strangers(place: Place, slide: str) -> list[str]:
    """Paths in the folder of a slide, whole or damaged, that are not of histoboost."""
    key, top = slide_key(slide), f"{slide_key(slide)}/obsm"
    names = [name for name in place.folders(top) if is_embedding_name(name)]
    marks = [f"{key}/{ROOT_DOCUMENT}", *(f"{top}/{name}/{ROOT_DOCUMENT}" for name in names)]
    if not any(map(bears_mark, place.read_many(marks))):
        return list(place.walk(key))[:1] or [key]
    try:
        record = open_slide(place, slide)
        found = foreign_entries(place, record)
        names = [name for name in names if not record.owns(name)]
    except Damaged:
        found = [path for path in place.walk(key) if path.split("/")[0] not in _PARTS]
        names = [name for name in names if name not in ("spatial", "abundance")]
    return found + [f"obsm/{n}/{path}" for n in names for path in strangers(place, slide, n)]


def _unit_folder(path: str) -> str | None:
    """The embedding's folder if `path` is a file that only an embedding has there."""
    parts = path.split("/")
    ours = len(parts) > 2 and parts[0] == "obsm" and parts[2] in (ROOT_DOCUMENT, "c")
    return "/".join(parts[:2]) if ours and is_embedding_name(parts[1]) else None


def slide_names(place: Place) -> list[str]:
    """Names of the slides, whole or damaged, sorted; a folder with nothing of ours is none."""
    return [name for name in place.folders(SLIDES) if is_slide(place, name)]


def is_slide(place: Place, name: str) -> bool:
    """Whether there is a slide of this name, whole or damaged."""
    return is_slide_name(name) and any(
        place.exists(f"{slide_key(name)}/{part}") for part in (ROOT_DOCUMENT, "obsm")
    )


def embedding_names(place: Place, record: SlideRecord) -> list[str]:
    """Names of the embeddings of a slide, whole or damaged, sorted."""
    top = f"{slide_key(record.slide)}/obsm"
    return [
        name
        for name in place.folders(top)
        if is_embedding_name(name)
        and not record.owns(name)
        and any(place.exists(f"{top}/{name}/{part}") for part in (ROOT_DOCUMENT, "c"))
    ]


def _write(place: Place, table: SpotTable, order: int | None) -> None:
    folder = slide_key(table.slide)
    there = place.exists(folder) and not place.in_progress(folder)
    if there and _is_whole(place, table.slide):
        return
    if order is None:
        order = next_orders(place, [table.slide])[table.slide]
    files, document = encode_slide(table, order)
    if there:
        if is_foreign_document(place.read(f"{folder}/{ROOT_DOCUMENT}")):
            raise BadInput(
                f"{place}: {folder} is there and not of histoboost; use another store, or move "
                "it elsewhere"
            )
        if table.group is None and place.exists(f"{folder}/uns/group"):
            raise BadInput(
                f"{place}: slide {table.slide} is damaged and has a group, which its source does "
                "not tell; add --groups FILE"
            )
        put_in_place(place, folder, files, document)
        return
    staging = f"table-{digest_bytes(document)[:32]}"
    held = place.hold(staging)
    place.publish(staging, folder, {**files, ROOT_DOCUMENT: document}, superseded=lambda: True)
    held.drop()


def encode_slide(table: SpotTable, order: int) -> tuple[dict[str, bytes], bytes]:
    """The files of a slide's spot table by path, and the document with their digests."""
    files = encode_table(table)
    del files[ROOT_DOCUMENT]  # ours says the same and more
    digests = {path: digest_bytes(data) for path, data in files.items()}
    return files, seal(slide_document(order, len(table), table.digest, digests))


def _is_whole(place: Place, slide: str) -> bool:
    try:
        read_files(place, open_slide(place, slide))
    except Damaged:
        return False
    return True


def put_in_place(place: Place, folder: str, files: dict[str, bytes], document: bytes) -> None:
    """Write what differs into a slide's folder, from `encode_slide`.

    One file at a time, because the folder also holds embeddings; the digests come last.
    """
    for path, data in files.items():
        if place.read(f"{folder}/{path}") != data:
            place.put(f"{folder}/{path}", data)
    place.put(f"{folder}/{ROOT_DOCUMENT}", document)


def next_orders(place: Place, slides: Sequence[str]) -> dict[str, int]:
    """Where `slides` stand, or will stand, among the slides of the store.

    Those that are there keep their number. If all are new they come last, in the order in which
    they are given; if some are there, as after a run that was cut off, the others take the places
    between them where these are free. A single one that is damaged gets the first number that is
    free, its own unless slides were removed.
    """
    orders = {}
    for name in place.folders(SLIDES):
        with contextlib.suppress(Damaged):
            orders[name] = open_slide(place, name).order
    taken = set(orders.values())
    last = max(taken, default=-1) + 1
    first = next((orders[name] - at for at, name in enumerate(slides) if name in orders), last)
    if len(slides) == 1 and place.exists(slide_key(slides[0])):
        first = next((number for number in range(last) if number not in taken), last)
    for at, name in enumerate(slides):
        if name not in orders:
            wanted = first + at
            free = wanted >= 0 and wanted not in taken
            orders[name] = wanted if free else max(taken) + 1
            taken.add(orders[name])
    return {name: orders[name] for name in slides}
