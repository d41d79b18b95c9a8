"""Write, read and repair the spot table of a slide in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    Damaged,
    embedding_key,
    is_foreign_document,
    read_document,
    seal,
    slide_document,
    slide_key,
    unseal,
)
from histoboost.cache.spot_files import decode_table, encode_table
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput
from histoboost.names import is_embedding_name, is_slide_name
from histoboost.spots import SpotTable

# One suffices unless other processes interfere.
_ATTEMPTS = 5


@dataclass(frozen=True)
class SlideRecord:
    """Metadata of a slide.

    `order` sorts the slides; `table_digest` is a SHA-256 of the whole table, `files` maps the path
    of every file of it in the slide's folder to its SHA-256.
    """

    slide: str
    order: int
    n_spots: int
    table_digest: str
    files: dict[str, str]

    @property
    def labelled(self) -> bool:
        """Whether the table has abundances."""
        return f"obsm/abundance/{ROOT_DOCUMENT}" in self.files


def open_slide(backend: Backend, slide: str) -> SlideRecord:
    """Read the metadata of a slide; raises `Damaged` if missing or changed."""
    return _parse(slide, read_document(backend, slide_key(slide)))


def slide_records(backend: Backend) -> Iterator[tuple[str, SlideRecord | Damaged]]:
    """Names of the slides, sorted, with their metadata or the damage to these."""
    names = list(filter(is_slide_name, backend.folders(SLIDES)))
    keys = [f"{slide_key(name)}/{ROOT_DOCUMENT}" for name in names]
    for name, data in zip(names, backend.read_many(keys), strict=True):
        if data is None and not is_slide(backend, name):
            continue
        try:
            yield name, _parse(name, unseal(data)) if data else open_slide(backend, name)
        except Damaged as damage:
            yield name, damage


def _parse(slide: str, document: dict[str, Any]) -> SlideRecord:
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        numbers = int(own["order"]), int(own["n_spots"])
        return SlideRecord(slide, *numbers, str(own["table_digest"]), dict(own["files"]))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json does not describe a slide") from error


def read_files(backend: Backend, record: SlideRecord) -> dict[str, bytes]:
    """Read the files of a spot table; raises `Damaged` if one is missing or changed."""
    keys = [f"{slide_key(record.slide)}/{path}" for path in record.files]
    files = {}
    for path, key, data in zip(record.files, keys, backend.read_many(keys), strict=True):
        if data is None:
            raise Damaged(f"{path} {backend.fault(key)}")
        if digest_bytes(data) != record.files[path]:
            raise Damaged(f"{path} does not match its digest")
        files[path] = data
    return files


def read_table(backend: Backend, record: SlideRecord) -> SpotTable:
    """Read the spots of a slide; raises `Damaged` if a file is missing or changed."""
    files = read_files(backend, record)
    root = backend.read(f"{slide_key(record.slide)}/{ROOT_DOCUMENT}") or b""
    return decode_table(record.slide, {**files, ROOT_DOCUMENT: root})


def write_table(backend: Backend, table: SpotTable, order: int | None = None) -> None:
    """Store the spots of a slide, or repair damaged files; different spots are refused.

    `order`, from `next_orders`, is the position of a new slide, by default the last.
    """
    for _ in range(_ATTEMPTS):
        try:
            record = open_slide(backend, table.slide)
            read_files(backend, record)
        except Damaged:
            _write(backend, table, order)
            continue  # check what this process or a faster one has stored
        if record.table_digest != table.digest:
            stored = read_table(backend, record)
            _refuse_different(backend, stored, table.with_group_of(stored))
        return
    raise BadInput(
        f"{backend}: slide {table.slide}: data read back differ from data written; check the disk"
    )


def _refuse_different(backend: Backend, stored: SpotTable, table: SpotTable) -> None:
    differences = stored.differences(table)
    if not differences:
        return
    if stored.with_labels(None).differences(table.with_labels(None)):
        remedy = "use another store, or remove the slide with its embeddings first"
        if stored.lattice and table.lattice:
            remedy = f"use the stored lattice's settings, or {remedy}"
    else:
        remedy = f"histoboost cache relabel {backend} DATA replaces them and keeps the embeddings"
    raise BadInput(
        f"{backend}: slide {table.slide} is stored with a different spot table: "
        f"{'; '.join(differences)}; {remedy}"
    )


def slide_names(backend: Backend) -> list[str]:
    """Names of the slides, intact or damaged, sorted; see `is_slide`."""
    return [name for name in backend.folders(SLIDES) if is_slide(backend, name)]


def is_slide(backend: Backend, name: str) -> bool:
    """Whether a slide of this name exists: intact or damaged, not foreign or unfinished."""
    return is_slide_name(name) and _exists(backend, slide_key(name), "obsm")


def _exists(backend: Backend, folder: str, part: str) -> bool:
    if backend.exists(f"{folder}/{ROOT_DOCUMENT}"):
        return True
    return backend.exists(f"{folder}/{part}") and not backend.in_progress(folder)


def embedding_names(backend: Backend, slide: str) -> list[str]:
    """Names of the embeddings of a slide, intact or damaged, sorted; see `is_slide`."""
    names = filter(is_embedding_name, backend.folders(f"{slide_key(slide)}/obsm"))
    return [name for name in names if is_embedding(backend, slide, name)]


def is_embedding(backend: Backend, slide: str, name: str) -> bool:
    """Whether an embedding of this name exists, intact or damaged; see `is_slide`."""
    return _exists(backend, embedding_key(slide, name), "c")


def _write(backend: Backend, table: SpotTable, order: int | None) -> None:
    folder = slide_key(table.slide)
    damaged = backend.exists(folder) and not backend.in_progress(folder)
    if damaged:
        with contextlib.suppress(Damaged):  # unless another process was faster
            read_files(backend, open_slide(backend, table.slide))
            return
    if order is None:
        order = next_orders(backend, [table.slide])[table.slide]
    files, document = encode_slide(table, order)
    if is_foreign_document(backend.read(f"{folder}/{ROOT_DOCUMENT}")):
        raise BadInput(
            f"{backend}: {folder} was not written by histoboost; move it elsewhere, or use another "
            "store"
        )
    if damaged:
        if table.group is None and backend.exists(f"{folder}/uns/group"):
            raise BadInput(
                f"{backend}: slide {table.slide} is damaged and has a group, which its source "
                "lacks; add --groups FILE"
            )
        put_in_place(backend, folder, files, document)
        return
    staging = f"table-{digest_bytes(document)[:32]}"
    held = backend.hold(staging)
    backend.publish(staging, folder, {**files, ROOT_DOCUMENT: document}, superseded=lambda: True)
    held.drop()


def encode_slide(table: SpotTable, order: int) -> tuple[dict[str, bytes], bytes]:
    """Files of a spot table by path, and the document with their digests."""
    files = encode_table(table)
    del files[ROOT_DOCUMENT]  # replaced by our own document
    digests = {path: digest_bytes(data) for path, data in files.items()}
    return files, seal(slide_document(order, len(table), table.digest, digests))


def put_in_place(backend: Backend, folder: str, files: dict[str, bytes], document: bytes) -> None:
    """Update a slide's folder with the output of `encode_slide`.

    File by file, because the folder also contains embeddings; the digests come last.
    """
    for path, data in files.items():
        if backend.read(f"{folder}/{path}") != data:
            backend.put(f"{folder}/{path}", data)
    backend.put(f"{folder}/{ROOT_DOCUMENT}", document)


def next_orders(backend: Backend, slides: Sequence[str]) -> dict[str, int]:
    """Positions of `slides` in the store.

    Stored slides keep theirs. If all are new they come last, in the given order; if some are
    stored, as after an interrupted run, the others take the free positions between. A single
    damaged slide gets the first free position, its own unless slides were removed.
    """
    found = slide_records(backend)
    orders = {name: record.order for name, record in found if isinstance(record, SlideRecord)}
    taken = set(orders.values())
    last = max(taken, default=-1) + 1
    first = next((orders[name] - at for at, name in enumerate(slides) if name in orders), last)
    if len(slides) == 1 and backend.exists(slide_key(slides[0])):
        first = next((number for number in range(last) if number not in taken), last)
    for at, name in enumerate(slides):
        if name not in orders:
            wanted = first + at
            free = wanted >= 0 and wanted not in taken
            orders[name] = wanted if free else max(taken) + 1
            taken.add(orders[name])
    return {name: orders[name] for name in slides}
