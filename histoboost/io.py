"""Files that a command writes: refused before the work, and there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from histoboost.errors import BadInput


def check_output(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Say before the work, and not after it, that `path` cannot be written.

    Parameters
    ----------
    path : Path
        File to be; an older one is replaced later.
    suffixes : sequence of str
        Those it may have; any where none is given.

    Raises
    ------
    HistoboostError
        If its suffix is another, it is a directory, or its own directory is missing or not
        writable.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a directory; give another name, or remove it")
    if suffixes and path.suffix not in suffixes:
        raise BadInput(f"{path}: unknown suffix {path.suffix!r}; give {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: no such directory {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path.parent}: cannot be written to; choose another place")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a place beside `path` and move what it wrote to `path` in one step."""
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write(staging / path.name)
        os.replace(staging / path.name, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
