"""Read the strings of HDF5 files in a helper process first.

libhdf5 crashes or hangs on some damaged heaps of strings, which have no checksum. `probe` lets a
long-lived helper process that imports only h5py read them first, and restarts it after a crash. The
helper runs this file as a program: its arguments are the folders to import from; for each path on
standard input it prints the name of every object before reading it, then an empty line, all in
JSON. Errors that h5py raises are ignored, as this process will get them, too.
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

#: Seconds allowed for this many strings, which take a fraction of one.
PATIENCE, ROWS = 15.0, 100_000

_lock = Lock()
_helpers: dict[int, subprocess.Popen[str]] = {}  # by pid of the parent


def probe(path: Path) -> str | None:
    """Name the object on which libhdf5 crashes or hangs, or None; all types must be valid.

    Raises OSError if the helper cannot be started.
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
    """Running helper of this process."""
    helper = _helpers.get(os.getpid())
    if helper is None or helper.poll() is not None:
        command = [sys.executable, "-I", "-S", __file__, *sys.path]
        pipe = subprocess.PIPE
        helper = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        _helpers[os.getpid()] = helper
        if not _answer(helper):
            raise OSError("the helper process that reads it first cannot be started")
    return helper


def _answer(helper: subprocess.Popen[str]) -> str:
    """Next line; empty if the helper has ended or was killed for being too slow."""
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
    _end_in(2 * PATIENCE)  # in case the parent dies
    print(json.dumps(text), flush=True)


def _end_in(seconds: float) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(round(seconds))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # left to the parent
    sys.path[:] = sys.argv[1:]
    import h5py  # noqa: F401

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        _read_all(json.loads(line))
        _end_in(0)
        print(flush=True)
