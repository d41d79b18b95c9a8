"""Output files: checked before the work, written completely or not at all."""

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

#: Maximum length of a file name in bytes.
MAX_NAME = 255


def read_array(
    file: Path | IO[bytes], name: object, remedy: str, mmap_mode: Literal["r"] | None = None
) -> NDArray[Any]:
    """Read an array from `numpy.save`; errors begin with `name` and end in `remedy`."""
    try:
        array = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as error:  # noqa: BLE001  (damaged headers raise any type)
        # The first sentence: NumPy goes on to advise unpickling.
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise BadInput(f"{name}: is not a NumPy array file ({reason}); {remedy}") from error
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{name}: is an archive, not one array; {remedy}")
    return array


def read_torch(path: Path, fault: str, remedy: str) -> Any:
    """Read a file from `torch.save` onto the CPU without executing code in it.

    Errors say `fault` of the file, then `remedy`.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:  # torch checks no checksums
                if any(part.compress_type for part in parts.infolist()) or parts.testzip():
                    raise ValueError("its content does not match its checksums")
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch and pickle each raise their own)
        reason = str(error).split("\n")[0].split(". ")[0]
        raise BadInput(f"{path}: {fault} ({reason}); {remedy}") from error


def check_name(path: Path) -> None:
    """Refuse a file or folder whose name is too long for file systems."""
    if len(os.fsencode(path.name)) > MAX_NAME:
        raise BadInput(f"{path}: its name is longer than {MAX_NAME} bytes; choose a shorter one")


def check_output(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Refuse, before the work, a `path` that cannot be written or has none of the `suffixes`."""
    check_name(path)
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; choose another name")
    if suffixes and not path.name[1:].endswith(tuple(suffixes)):
        raise BadInput(f"{path}: unknown suffix {path.suffix!r}; give {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: no such folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path.parent}: is not writable; choose another folder")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path and move its output to `path` in one step.

    Whatever happens, `path` has either its old or its complete new content. If it is a symbolic
    link, the link stays and its target is replaced.
    """
    target = Path(os.path.realpath(path))
    with plain_errors(path):
        # A folder, not a longer name: the name may have the maximum length already.
        staging = Path(tempfile.mkdtemp(prefix=".histoboost-", dir=target.parent))
        try:
            staged = staging / target.name
            write(staged)
            sync(staged)
            os.replace(staged, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, with unchanged line ends; see `write_whole`."""
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8", newline=""))


@contextmanager
def plain_errors(path: object, kept: str = "the old content is kept") -> Iterator[None]:
    """Turn errors of the system while writing `path` into one line, which ends in `kept`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        remedy = _REMEDIES.get(error.errno or 0, "choose another place")
        raise BadInput(f"{path}: cannot be written ({reason}); {remedy}, {kept}") from error


def sync(path: Path) -> None:
    """Flush a file, or all files below a folder, to disk."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to disk."""
    if os.name == "nt":
        return  # folders cannot be opened, and need no sync
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
