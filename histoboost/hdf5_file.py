"""HDF5 files opened so that nothing outside the file is read.

HDF5 lets a file name others: links into other files, pixels kept in raw files beside it, datasets
put together from several files. A file from elsewhere could so show any file of this machine as
pixels or spots, and two slides could get one picture; such files are refused.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from histoboost.errors import BadInput

_INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    OSError
        If it cannot be opened.
    HistoboostError
        If a link or dataset in it leads to another file.
    """
    file = h5py.File(path, "r")
    try:
        _check_links(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_links(path: Path, file: h5py.File) -> None:
    links: list[tuple[bytes, int]] = []

    def note(name: bytes, info: Any) -> None:
        links.append((name, info.type))

    try:
        file.id.links.visit(note, info=True)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    for name, kind in links:
        shown = name.decode("utf-8", "replace")
        if kind not in _INSIDE:
            _refuse(path, shown, "a link to another file")
        # A soft link leads to what is visited under its own name.
        if kind == h5py.h5l.TYPE_HARD:
            with suppress(KeyError, OSError, RuntimeError):  # damaged: nobody can read it
                _check_values(path, shown, file[name])


def _check_values(path: Path, name: str, found: object) -> None:
    if not isinstance(found, h5py.Dataset):
        return
    if found.external:
        _refuse(path, name, "kept in a raw file outside")
    if found.is_virtual:
        _refuse(path, name, "a virtual dataset, put together from others")


def _refuse(path: Path, name: str, what: str) -> None:
    raise BadInput(f"{path}: {name} is {what}; write the values into this file itself")
