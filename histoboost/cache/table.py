"""A slide's spot table in the store: write it once, read it back, repair it."""

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

# Writing once is enough unless other processes interfere.
_ATTEMPTS = 5


@dataclass(frozen=True)
class SlideRecord:
    """What a slide's metadata says.

    Slides are listed by `order`. `table_digest` is a SHA-256 over everything in the table, `files`
    has that of every file of it by its path below the slide's folder.
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
    """Read a slide's metadata; `Damaged` if it is missing or not as written."""
    return _record_of(slide, read_document(backend, slide_key(slide)))


def slide_documents(backend: Backend) -> Iterator[tuple[str, bytes | None]]:
    """Names of the slides, sorted, with their documents as far as these can be read."""
    names = list(filter(is_slide_name, backend.folders(SLIDES)))
    keys = [f"{slide_key(name)}/{ROOT_DOCUMENT}" for name in names]
    for name, data in zip(names, backend.read_many(keys), strict=True):
        if data is not None or is_slide(backend, name):
            yield name, data


def parse_slide(backend: Backend, slide: str, data: bytes | None) -> SlideRecord:
    """As `open_slide`, of a document from `slide_documents`."""
    return open_slide(backend, slide) if data is None else _record_of(slide, unseal(data))


def _record_of(slide: str, document: dict[str, Any]) -> SlideRecord:
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        numbers = int(own["order"]), int(own["n_spots"])
        return SlideRecord(slide, *numbers, str(own["table_digest"]), dict(own["files"]))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json does not describe a slide") from error


def read_files(backend: Backend, record: SlideRecord) -> dict[str, bytes]:
    """The files of a slide's spot table; `Damaged` if one is missing or not as written."""
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
    """A slide's spots; `Damaged` if a file is missing or not as written."""
    files = read_files(backend, record)
    root = backend.read(f"{slide_key(record.slide)}/{ROOT_DOCUMENT}") or b""
    return decode_table(record.slide, {**files, ROOT_DOCUMENT: root})


def write_table(backend: Backend, table: SpotTable, order: int | None = None) -> None:
    """Store a slide's spots, or put back what of them is damaged.

    A new slide gets its `order` from `next_orders`, by default the last. Other spots than those
    that are stored are refused.
    """
    for _ in range(_ATTEMPTS):
        try:
            record = open_slide(backend, table.slide)
            read_files(backend, record)
        except Damaged:
            _write(backend, table, order)
            continue  # look at what is stored now, by this process or a quicker one
        if record.table_digest != table.digest:
            stored = read_table(backend, record)
            _refuse_others(backend, stored, table.with_group_of(stored))
        return
    raise BadInput(
        f"{backend}: slide {table.slide} data read back differ from data written; check the disk"
    )


def _refuse_others(backend: Backend, stored: SpotTable, table: SpotTable) -> None:
    differences = stored.differences(table)
    if not differences:
        return
    if stored.with_labels(None).differences(table.with_labels(None)):
        remedy = "use another store, or remove the slide with its embeddings first"
        if stored.lattice and table.lattice:
            remedy = f"lay it as there, or {remedy}"
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
    """Whether there is a slide of this name, intact or damaged: not one that is being published,
    nor a folder with nothing of ours in it."""
    return is_slide_name(name) and _is_there(backend, slide_key(name), "obsm")


def _is_there(backend: Backend, folder: str, part: str) -> bool:
    if backend.exists(f"{folder}/{ROOT_DOCUMENT}"):
        return True
    return backend.exists(f"{folder}/{part}") and not backend.in_progress(folder)


def embedding_names(backend: Backend, slide: str) -> list[str]:
    """Names of the embeddings of a slide, intact or damaged, sorted."""
    names = filter(is_embedding_name, backend.folders(f"{slide_key(slide)}/obsm"))
    return [name for name in names if is_embedding(backend, slide, name)]


def is_embedding(backend: Backend, slide: str, name: str) -> bool:
    """Whether there is an embedding of this name, intact or damaged: see `is_slide`."""
    return _is_there(backend, embedding_key(slide, name), "c")


def _write(backend: Backend, table: SpotTable, order: int | None) -> None:
    folder = slide_key(table.slide)
    there = backend.exists(folder) and not backend.in_progress(folder)
    if there:
        with contextlib.suppress(Damaged):  # else another process was quicker
            read_files(backend, open_slide(backend, table.slide))
            return
    if order is None:
        order = next_orders(backend, [table.slide])[table.slide]
    files, document = encode_slide(table, order)
    if is_foreign_document(backend.read(f"{folder}/{ROOT_DOCUMENT}")):
        raise BadInput(
            f"{backend}: {folder} is there and not of histoboost; use another store, or move it "
            "elsewhere"
        )
    if there:
        if table.group is None and backend.exists(f"{folder}/uns/group"):
            raise BadInput(
                f"{backend}: slide {table.slide} is damaged and has a group, which its source does "
                "not tell; add --groups FILE"
            )
        put_in_place(backend, folder, files, document)
        return
    staging = f"table-{digest_bytes(document)[:32]}"
    held = backend.hold(staging)
    backend.publish(staging, folder, {**files, ROOT_DOCUMENT: document}, superseded=lambda: True)
    held.drop()


def encode_slide(table: SpotTable, order: int) -> tuple[dict[str, bytes], bytes]:
    """The files of a slide's spot table by path, and the document with their digests."""
    files = encode_table(table)
    del files[ROOT_DOCUMENT]  # ours says the same and more
    digests = {path: digest_bytes(data) for path, data in files.items()}
    return files, seal(slide_document(order, len(table), table.digest, digests))


def put_in_place(backend: Backend, folder: str, files: dict[str, bytes], document: bytes) -> None:
    """Write what differs into a slide's folder, from `encode_slide`.

    One file at a time, because the folder also holds embeddings; the digests come last.
    """
    for path, data in files.items():
        if backend.read(f"{folder}/{path}") != data:
            backend.put(f"{folder}/{path}", data)
    backend.put(f"{folder}/{ROOT_DOCUMENT}", document)


def next_orders(backend: Backend, slides: Sequence[str]) -> dict[str, int]:
    """Where `slides` stand, or will stand, among the slides of the store.

    Those that are there keep their number. If all are new they come last, in the order in which
    they are given; if some are there, as after a run that was cut off, the others take the places
    between them where these are free. A single one that is damaged gets the first number that is
    free, its own unless slides were removed.
    """
    orders = {}
    for name, data in slide_documents(backend):
        with contextlib.suppress(Damaged):
            orders[name] = parse_slide(backend, name, data).order
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
