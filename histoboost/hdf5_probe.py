"""Texts of HDF5 files, read once in another process before they are read in this one.

libhdf5 crashes or hangs on some damaged heaps of texts, which no checksum covers. `probe` lets a
process that imports nothing but h5py read them first; it lives as long as this one and is started
anew where it ends. There, this file is run as a program: the arguments are the folders to import
from, each line of the input is a path, and the answer is a line for every object before it is read
and an empty one at the end, all in JSON. What h5py finds wrong, this process will find, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from atexit import register
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any

#: Seconds for so many texts, which are read in a fraction of one.
PATIENCE, ROWS = 15.0, 100_000

_lock = Lock()
_helpers: dict[int, subprocess.Popen[str]] = {}  # by the process they work for


def probe(path: Path) -> str | None:
    """What libhdf5 crashes or hangs on in a file, or None.

    Parameters
    ----------
    path : Path
        HDF5 file whose types are sound.

    Raises
    ------
    OSError
        If no other process can be started.
    """
    with _lock:
        helper = _helper()
        helper.stdin.write(json.dumps(str(path.absolute())) + "\n")  # type: ignore[union-attr]
        helper.stdin.flush()  # type: ignore[union-attr]
        name = str(path)
        while True:
            line = _answer(helper)
            if line == "\n":
                return None
            if not line:
                helper.wait()
                return name
            name = json.loads(line)


def _helper() -> subprocess.Popen[str]:
    """The process that reads for this one."""
    helper = _helpers.get(os.getpid())
    if helper is None or helper.poll() is not None:
        command = [sys.executable, "-I", "-S", __file__, *sys.path]
        pipe = subprocess.PIPE
        helper = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        _helpers[os.getpid()] = helper
        if not _answer(helper):
            raise OSError("no process can be started to read it first")
    return helper


def _answer(helper: subprocess.Popen[str]) -> str:
    """The next line, empty where the process has ended or was too slow and is ended."""
    timer = Timer(PATIENCE, helper.kill)
    timer.daemon = True
    timer.start()
    try:
        return helper.stdout.readline()  # type: ignore[union-attr]
    finally:
        timer.cancel()


@register
def _end() -> None:
    helper = _helpers.get(os.getpid())
    if helper is not None:
        helper.kill()
        helper.communicate()


def _read_all(path: str) -> None:
    import h5py

    with suppress(Exception), h5py.File(path, "r") as file:
        names = [b"/"]
        with suppress(RuntimeError):
            file.id.links.visit(names.append)
        for name in names:
            with suppress(Exception):
                _read(name.decode("utf-8", "replace"), h5py.h5o.open(file.id, name))


def _read(name: str, found: Any) -> None:
    import h5py

    is_dataset = isinstance(found, h5py.h5d.DatasetID)
    owner: Any = h5py.Dataset(found) if is_dataset else h5py.Group(found)
    _say(f"attributes of {name}")
    for attribute in owner.attrs:
        with suppress(Exception):
            owner.attrs[attribute]
    if is_dataset and owner.dtype.hasobject:
        for start in range(0, len(owner) if owner.ndim else 1, ROWS):
            _say(name)
            owner[start : start + ROWS] if owner.ndim else owner[()]


def _say(text: str) -> None:
    _end_in(2 * PATIENCE)  # where the other process is no more
    print(json.dumps(text), flush=True)


def _end_in(seconds: float) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(round(seconds))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides
    sys.path[:] = sys.argv[1:]
    import h5py  # noqa: F401

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        _read_all(json.loads(line))
        _end_in(0)
        print(flush=True)
