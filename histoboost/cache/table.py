"""A slide's spot table in the store: write it once, read it back, repair it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from histoboost.cache.digests import digest_bytes
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    Damaged,
    seal,
    slide_document,
    slide_key,
    unseal,
)
from histoboost.cache.place import LocalPlace
from histoboost.cache.spots import SpotTable, decode_table, encode_table
from histoboost.errors import HistoboostError


@dataclass(frozen=True)
class SlideRecord:
    """What a slide's metadata says.

    Attributes
    ----------
    slide : str
    order : int
        Slides are listed by it.
    n_spots : int
    files : dict
        Path below the slide's folder of every file of the spot table, to its SHA-256.
    """

    slide: str
    order: int
    n_spots: int
    files: dict[str, str]

    def owns(self, path: str) -> bool:
        """Whether `path` is a file of the spot table or a folder of such files."""
        return any(file == path or file.startswith(f"{path}/") for file in self.files)


def open_slide(place: LocalPlace, slide: str) -> SlideRecord:
    """Read a slide's metadata.

    Raises
    ------
    Damaged
        If it is missing or not as written.
    """
    document = unseal(place.read(f"{slide_key(slide)}/{ROOT_DOCUMENT}"))
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        return SlideRecord(slide, int(own["order"]), int(own["n_spots"]), dict(own["files"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json is not of a slide") from error


def read_table(place: LocalPlace, record: SlideRecord) -> SpotTable:
    """Read a slide's spots, every byte compared with its digest.

    Raises
    ------
    Damaged
        If a file is missing or not as written.
    """
    files = {}
    for path, digest in record.files.items():
        data = place.read(f"{slide_key(record.slide)}/{path}")
        if data is None:
            raise Damaged(f"{path} is missing")
        if digest_bytes(data) != digest:
            raise Damaged(f"{path} does not match its digest")
        files[path] = data
    root = place.read(f"{slide_key(record.slide)}/{ROOT_DOCUMENT}")
    return decode_table(record.slide, {**files, ROOT_DOCUMENT: root or b""})


def write_table(place: LocalPlace, table: SpotTable) -> None:
    """Store a slide's spots, or put back what of them is damaged.

    Raises
    ------
    HistoboostError
        If other spots are stored for the slide.
    """
    try:
        record = open_slide(place, table.slide)
        stored = read_table(place, record)
    except Damaged:
        _write(place, table)
        return
    differences = stored.differences(table)
    if differences:
        raise HistoboostError(
            f"{place}: slide {table.slide} is stored with other spots "
            f"({'; '.join(differences)}); use another store or remove the slide"
        )


def _write(place: LocalPlace, table: SpotTable) -> None:
    folder = slide_key(table.slide)
    files = encode_table(table)
    del files[ROOT_DOCUMENT]  # ours says the same and more
    digests = {path: digest_bytes(data) for path, data in files.items()}
    document = seal(slide_document(_next_order(place, table.slide), len(table), digests))
    if place.exists(folder):
        _repair(place, folder, files, document)
        return
    staging = f"table-{digest_bytes(document)[:32]}"
    held = place.hold(staging)
    place.publish(staging, folder, {**files, ROOT_DOCUMENT: document}, superseded=lambda: True)
    held.drop()


def _repair(place: LocalPlace, folder: str, files: dict[str, bytes], document: bytes) -> None:
    # One file at a time, because the folder also holds embeddings; the digests come last.
    for path, data in files.items():
        if place.read(f"{folder}/{path}") != data:
            place.put(f"{folder}/{path}", data)
    place.put(f"{folder}/{ROOT_DOCUMENT}", document)


def _next_order(place: LocalPlace, slide: str) -> int:
    """Where `slide` stands among the slides.

    A new slide comes last. One that is there but damaged gets the first number that is free, its
    own unless slides were removed.
    """
    taken = set()
    for other in place.children(SLIDES):
        try:
            record = open_slide(place, other)
        except Damaged:
            continue
        if other == slide:
            return record.order
        taken.add(record.order)
    if place.exists(slide_key(slide)):
        return next(number for number in range(len(taken) + 1) if number not in taken)
    return max(taken, default=-1) + 1
