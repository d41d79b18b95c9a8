"""Files that a command writes: refused before the work, and there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}

#: Longest name of a file, in bytes, that file systems take.
MAX_NAME = 255


def read_array(
    file: Path | IO[bytes], name: object, remedy: str, mmap_mode: Literal["r"] | None = None
) -> NDArray[Any]:
    """An array as `numpy.save` wrote it; an error names it `name` and ends in `remedy`."""
    try:
        array = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as error:  # noqa: BLE001  (what a damaged header comes to has no one type)
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: is not an array file of NumPy ({reason}); {remedy}") from error
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{name}: is an archive of arrays, not one; {remedy}")
    return array


def read_torch(path: Path, fault: str, remedy: str) -> Any:
    """What `torch.save` wrote, onto the CPU; nothing in it is executed.

    The error names the file, and what is wrong with it as `fault`.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:  # torch itself compares no checksum
                if any(part.compress_type for part in parts.infolist()) or parts.testzip():
                    raise ValueError("its content does not match its checksums")
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch and pickle each raise their own)
        reason = str(error).split("\n")[0].split(". ")[0]
        raise BadInput(f"{path}: {fault} ({reason}); {remedy}") from error


def check_name(path: Path) -> None:
    """Refuse a file or folder whose name is longer than file systems take."""
    if len(os.fsencode(path.name)) > MAX_NAME:
        raise BadInput(f"{path}: its name is longer than {MAX_NAME} bytes; choose a shorter one")


def check_output(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Say before the work, and not after it, that `path` cannot be written.

    An older file is replaced later. Where `suffixes` are given, it must end in one of them.
    """
    check_name(path)
    if path.is_dir():
        raise BadInput(f"{path}: is a directory; choose another name")
    if suffixes and not path.name[1:].endswith(tuple(suffixes)):
        raise BadInput(f"{path}: unknown suffix {path.suffix!r}; give {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: no such directory {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path.parent}: cannot be written to; choose another place")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a place beside `path` and move what it wrote to `path` in one step.

    Whatever happens meanwhile, `path` holds what it held before or all that was written. Where it
    is a symbolic link, the link stays and what it leads to is replaced.
    """
    target = Path(os.path.realpath(path))
    with plain_errors(path):
        # Short: the name of a file may already be as long as the system allows.
        staging = Path(tempfile.mkdtemp(prefix=".histoboost-", dir=target.parent))
        try:
            made = staging / target.name
            write(made)
            sync(made)
            os.replace(made, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, its line ends as they are, whole or not at all."""
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8", newline=""))


@contextmanager
def plain_errors(path: object, kept: str = "what was there is kept") -> Iterator[None]:
    """Turn what the system refuses while `path` is written into one line, which ends in `kept`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        remedy = _REMEDIES.get(error.errno or 0, "choose another place")
        raise BadInput(f"{path}: cannot be written ({reason}); {remedy}, {kept}") from error


def sync(path: Path) -> None:
    """Bring a file, or all files below a folder, to the disk: a rename must not come first."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name == "nt":
        return  # folders cannot be opened there, and their entries need no sync
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
