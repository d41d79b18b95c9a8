"""A published unit, one embedding of one slide: read it, and say what of it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.backend import Place
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    Damaged,
    chunk_rows,
    chunk_slices,
    decode_chunk,
    is_foreign_document,
    is_whole_chunk,
    unit_key,
    unseal,
)
from histoboost.cache.recipe import Recipe
from histoboost.digests import digest_bytes


@dataclass(frozen=True)
class Unit:
    """What a unit's metadata says.

    Attributes
    ----------
    key : str
        Its folder.
    shape : tuple of int
        (N, D).
    recipe : Recipe
    chunks : tuple of str
        SHA-256 of the stored bytes of every chunk, in row order.
    """

    key: str
    shape: tuple[int, int]
    recipe: Recipe
    chunks: tuple[str, ...]

    def chunk_key(self, index: int) -> str:
        """File of a chunk."""
        return f"{self.key}/{chunk_path(index)}"


def chunk_path(index: int) -> str:
    """Path of a chunk within its unit."""
    return f"c/{index}/0"


def open_unit(place: Place, slide: str, name: str) -> Unit:
    """Read a unit's metadata.

    Raises
    ------
    Damaged
        If it is missing or not as written.
    """
    key = unit_key(slide, name)
    document = unseal(place.read(f"{key}/{ROOT_DOCUMENT}"))
    own: dict[str, Any] = document["attributes"]["histoboost"]
    try:
        n_spots, width = map(int, document["shape"])
        unit = Unit(key, (n_spots, width), Recipe(own["recipe"]), tuple(own["chunks"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("zarr.json is not of an embedding") from error
    if len(unit.chunks) != len(chunk_slices(n_spots)):
        raise Damaged("zarr.json counts its chunks wrongly")
    return unit


def read_unit(place: Place, unit: Unit) -> NDArray[np.float16]:
    """All rows, (N, D) float16, each chunk compared with its checksum.

    Raises
    ------
    Damaged
        If a chunk is missing or not as written.
    """
    n_spots, width = unit.shape
    height, count = chunk_rows(n_spots), len(unit.chunks)
    # Room for the padding of the last chunk, so that every chunk is read to where it belongs.
    rows = np.empty((count * height, width), dtype="<f2")
    chunks = rows.reshape(count, height, width)
    parts = chunks.reshape(count, -1).view(np.uint8)
    targets = ((unit.chunk_key(index), part.data) for index, part in enumerate(parts))
    for index, (chunk, rest) in enumerate(zip(chunks, place.fill(targets), strict=True)):
        if not is_whole_chunk(chunk, rest):
            raise Damaged(f"chunk {index} {_fault(place, unit, index)}")
    return rows[:n_spots].astype(np.float16, copy=False)


def _fault(place: Place, unit: Unit, index: int) -> str:
    """What is wrong with a chunk that is not whole."""
    try:
        decode_chunk(place.read(unit.chunk_key(index)), (chunk_rows(unit.shape[0]), unit.shape[1]))
    except Damaged as damage:
        return str(damage)
    return "changed while it was read"


def damaged_chunks(place: Place, unit: Unit) -> dict[int, str]:
    """Index of every chunk that is not byte for byte as written, to what is wrong with it."""
    shape = (chunk_rows(unit.shape[0]), unit.shape[1])
    found = {}
    stored = place.read_many(unit.chunk_key(index) for index in range(len(unit.chunks)))
    for index, (digest, data) in enumerate(zip(unit.chunks, stored, strict=True)):
        if data is not None and digest_bytes(data) == digest:
            continue
        try:
            decode_chunk(data, shape)
            found[index] = "does not match its digest"
        except Damaged as damage:
            found[index] = str(damage)
    return found


def strangers(place: Place, slide: str, name: str) -> list[str]:
    """Paths in the folder of an embedding, whole or damaged, that are not of histoboost."""
    key = unit_key(slide, name)
    if is_foreign_document(place.read(f"{key}/{ROOT_DOCUMENT}")):
        return [ROOT_DOCUMENT]
    try:
        return foreign_files(place, open_unit(place, slide, name))
    except Damaged:
        parts = (ROOT_DOCUMENT, "c")
        return [path for path in place.walk(key) if path.split("/")[0] not in parts]


def foreign_files(place: Place, unit: Unit) -> list[str]:
    """Paths within the unit's folder that do not belong there."""
    own = {ROOT_DOCUMENT, "c/", *(chunk_path(index) for index in range(len(unit.chunks)))}
    own |= {f"c/{index}/" for index in range(len(unit.chunks))}  # empty: the chunk is missing
    return [path for path in place.walk(unit.key) if path not in own]
