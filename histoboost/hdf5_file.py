"""Open HDF5 files safely: no access to other files, no crash on damaged ones.

HDF5 files may refer to others: external links, raw data files, virtual datasets. A malicious file
could so show any file of this machine as pixels or spots; such files are refused.

Types have no checksum, and libhdf5 trusts them: a damaged float in a table overlaps other columns
in memory, and a damaged string type has no reader; both end in a segmentation fault. Types are
therefore checked before any value is read, and strings are read in another process first.
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

#: Byte of an encoded variable-length type: 0 for sequences, 1 for strings.
KIND_AT = 3
#: Raised by h5py on damage.
DAMAGED = (KeyError, OSError, RuntimeError, TypeError, ValueError, NotImplementedError)
_INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)
#: Files already checked, with their fingerprint.
_checked: dict[str, tuple[int, ...]] = {}


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; refused if it refers to other files or a type is damaged."""
    file = h5py.File(path, "r")
    try:
        found = os.stat(path)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if _checked.get(str(path)) != stamp:
            if _check(path, file) and (name := probe(path)) is not None:
                raise BadInput(
                    f"{path}: {name} is unreadable, libhdf5 crashes or hangs on it; copy the file "
                    "again"
                )
            _checked[str(path)] = stamp
    except BaseException:
        file.close()
        raise
    return file


def _check(path: Path, file: h5py.File) -> bool:
    """Check links and types; returns whether there are variable-length strings."""
    links: list[tuple[bytes, int]] = []

    def add(name: bytes, info: Any) -> None:
        links.append((name, info.type))

    try:
        file.id.links.visit(add, info=True)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise OSError(str(error)) from error
    texts = _check_values(path, "/", h5py.h5o.open(file.id, b"/"))
    for name, kind in links:
        shown = name.decode("utf-8", "replace")
        if kind not in _INSIDE:
            _refuse(path, shown, "a link to another file")
        # Targets of soft links are visited by their own names.
        if kind == h5py.h5l.TYPE_HARD:
            try:
                found = h5py.h5o.open(file.id, name)
            except DAMAGED:  # unreadable
                continue
            texts |= _check_values(path, shown, found)
    return texts


def _check_values(path: Path, name: str, found: Any) -> bool:
    """Check types and storage of an object; returns whether it has variable-length strings."""
    texts = False
    for open_type in _types(path, name, found):
        try:
            kind = open_type()
            sound, texts = _is_sound(kind), texts or kind.dtype.hasobject
        except DAMAGED:  # h5py detects it, too
            continue
        if not sound:
            raise BadInput(f"{path}: {name} has a damaged type; copy the file again")
    return texts


def _types(path: Path, name: str, found: Any) -> Iterator[Callable[[], Any]]:
    """Functions that open the type of each attribute and of the values."""
    for index in range(h5py.h5a.get_num_attrs(found)):
        yield lambda: h5py.h5a.open(found, index=index).get_type()  # noqa: B023 - called at once
    if isinstance(found, h5py.h5d.DatasetID):
        with suppress(*DAMAGED):
            layout = found.get_create_plist()
            if layout.get_external_count():
                _refuse(path, name, "stored in an external raw file")
            if layout.get_layout() == h5py.h5d.VIRTUAL:
                _refuse(path, name, "a virtual dataset of other files")
        yield found.get_type


def _is_sound(found: Any) -> bool:
    """Whether values of a type are readable: members do not overlap and are of known kinds."""
    kind = found.get_class()
    if kind == h5py.h5t.COMPOUND:
        end = 0
        members = [
            (found.get_member_offset(i), found.get_member_type(i))
            for i in range(found.get_nmembers())
        ]
        for offset, member in sorted(members, key=lambda each: each[0]):
            size = member.get_size()
            # Values are read into the NumPy dtype.
            if offset < end or member.dtype.itemsize > size or not _is_sound(member):
                return False
            end = offset + size
        return bool(end <= found.get_size())
    if kind == h5py.h5t.VLEN:
        # Strings have a class of their own in h5py; here, only sequences are readable.
        return int(found.encode()[KIND_AT]) & 0xF == 0 and _is_sound(found.get_super())
    return kind != h5py.h5t.ARRAY or _is_sound(found.get_super())


def _refuse(path: Path, name: str, what: str) -> None:
    raise BadInput(f"{path}: {name} is {what}; save the values in this file itself")
