"""HDF5 files opened so that nothing outside the file is read, and no damage ends the process.

HDF5 lets a file name others: links into other files, pixels kept in raw files beside it, datasets
put together from several files. A file from elsewhere could so show any file of this machine as
pixels or spots, and two slides could get one picture; such files are refused.

Types are not covered by a checksum, and h5py and libhdf5 take them as they are: a table with a
damaged float overlaps its own columns in memory, and a damaged text has no functions to read it;
both end the process with a segmentation fault. Types are therefore checked before a value is read,
and texts are read in another process first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from histoboost.errors import BadInput
from histoboost.hdf5_probe import probe

#: Byte of an encoded type of variable length that tells sequences (0) from text (1).
KIND_AT = 3
#: What h5py raises on damage.
DAMAGED = (KeyError, OSError, RuntimeError, TypeError, ValueError, NotImplementedError)
_INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)


#: Files that were checked before, and what told them from others then.
_checked: dict[str, tuple[int, ...]] = {}


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    OSError
        If it cannot be opened.
    HistoboostError
        If a link or dataset in it leads to another file, or a type in it is damaged.
    """
    file = h5py.File(path, "r")
    try:
        found = os.stat(path)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if _checked.get(str(path)) != stamp:
            if _check(path, file) and (name := probe(path)) is not None:
                raise BadInput(
                    f"{path}: {name} cannot be read, libhdf5 crashes or hangs on it; copy the file "
                    "again"
                )
            _checked[str(path)] = stamp
    except BaseException:
        file.close()
        raise
    return file


def _check(path: Path, file: h5py.File) -> bool:
    """Check links and types; whether there are texts of variable length."""
    links: list[tuple[bytes, int]] = []

    def note(name: bytes, info: Any) -> None:
        links.append((name, info.type))

    try:
        file.id.links.visit(note, info=True)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise OSError(str(error)) from error
    texts = _check_values(path, "/", h5py.h5o.open(file.id, b"/"))
    for name, kind in links:
        shown = name.decode("utf-8", "replace")
        if kind not in _INSIDE:
            _refuse(path, shown, "a link to another file")
        # A soft link leads to what is visited under its own name.
        if kind == h5py.h5l.TYPE_HARD:
            try:
                found = h5py.h5o.open(file.id, name)
            except DAMAGED:  # nobody can read it
                continue
            texts |= _check_values(path, shown, found)
    return texts


def _check_values(path: Path, name: str, found: Any) -> bool:
    """Check an object's types, and where its values lie; whether there are texts among them."""
    texts = False
    for open_type in _types(path, name, found):
        try:
            kind = open_type()
            sound, texts = _is_sound(kind), texts or kind.dtype.hasobject
        except DAMAGED:  # in a way that h5py finds, too
            continue
        if not sound:
            raise BadInput(f"{path}: {name} has a damaged type; copy the file again")
    return texts


def _types(path: Path, name: str, found: Any) -> Iterator[Callable[[], Any]]:
    """What opens the type of every attribute, and of the values."""
    for index in range(h5py.h5a.get_num_attrs(found)):
        yield lambda: h5py.h5a.open(found, index=index).get_type()  # noqa: B023 - called at once
    if isinstance(found, h5py.h5d.DatasetID):
        with suppress(*DAMAGED):
            layout = found.get_create_plist()
            if layout.get_external_count():
                _refuse(path, name, "kept in a raw file outside")
            if layout.get_layout() == h5py.h5d.VIRTUAL:
                _refuse(path, name, "a virtual dataset, put together from others")
        yield found.get_type


def _is_sound(found: Any) -> bool:
    """Whether values of a type can be read at all: its parts lie apart and are of known kinds."""
    kind = found.get_class()
    if kind == h5py.h5t.COMPOUND:
        end = 0
        members = [
            (found.get_member_offset(i), found.get_member_type(i))
            for i in range(found.get_nmembers())
        ]
        for offset, member in sorted(members, key=lambda each: each[0]):
            size = member.get_size()
            # NumPy's type is what the values are read to.
            if offset < end or member.dtype.itemsize > size or not _is_sound(member):
                return False
            end = offset + size
        return bool(end <= found.get_size())
    if kind == h5py.h5t.VLEN:
        # Text is a class of its own to h5py; anything but a sequence here cannot be read.
        return int(found.encode()[KIND_AT]) & 0xF == 0 and _is_sound(found.get_super())
    return kind != h5py.h5t.ARRAY or _is_sound(found.get_super())


def _refuse(path: Path, name: str, what: str) -> None:
    raise BadInput(f"{path}: {name} is {what}; write the values into this file itself")
