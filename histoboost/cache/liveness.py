"""Who owns a staging folder: told by the kernel, never by a file whose writer may be dead."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

#: Windows has no flock: age decides there, see `abandoned`.
_HAS_LOCKS = find_spec("fcntl") is not None
if _HAS_LOCKS:
    import fcntl

_LOCK = "lock"
# Each is lost to an owner that deletes the folder just then.
_ATTEMPTS = 1000
# A file system without locks answers with one of these.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class FolderHold:
    """A shared claim on a staging folder; ends with `drop`, or with the process.

    `descriptor` is its open and locked file; `alone`: nobody else holds it, for all that can be
    known.
    """

    def __init__(self, folder: Path, descriptor: int, *, alone: bool = False) -> None:
        self._folder = folder
        self._alone = alone
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor

    def drop(self) -> None:
        """Give the folder up, and delete it if nobody else holds it."""
        if not self._close.alive:
            return
        if self._alone or _lock(self._descriptor, exclusive=True):
            _remove(self._folder)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()  # only goes where it is empty
        self._close()

    def release(self) -> None:
        """Give the folder up and leave its content for a later run."""
        self._close()


def hold(folder: Path) -> FolderHold:
    """Make `folder` and claim it, together with others who claim it too."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):
            if left == 0:
                raise  # a link to nowhere is in the way, or a file
            continue  # deleted meanwhile by its last owner: make it anew
        _lock(descriptor, exclusive=False)
        if _is_at(descriptor, folder / _LOCK):
            return FolderHold(folder, descriptor)
        os.close(descriptor)  # the last owner deleted it while we waited
    raise FileExistsError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))


def abandoned(folder: Path, older_than_s: float) -> FolderHold | None:
    """Claim `folder` alone if no live process holds it; None if one does.

    Where the file system knows no locks, a folder counts as held until nothing in it has changed
    for `older_than_s` seconds; with 0, for ever.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        return None
    locked = _lock(descriptor, exclusive=True)
    certain = _HAS_LOCKS and locked is True
    free = locked is not False and _is_at(descriptor, folder / _LOCK)
    held = FolderHold(folder, descriptor, alone=True)
    if free and (certain or 0 < older_than_s < _age_s(folder)):
        return held
    held.release()
    return None


@contextlib.contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Be the only process in this block for `folder`; waits for others, who take milliseconds."""
    if not _HAS_LOCKS:
        yield  # the rename inside is atomic all the same
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Whether the file could be locked; None where its file system knows no locks."""
    if not _HAS_LOCKS:
        return True
    operation = fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    # Renamed first, or a process that claims the folder meanwhile would be left with half of it.
    trash = folder.with_name(f"trash-{uuid.uuid4().hex}")
    try:
        os.rename(folder, trash)
    except FileNotFoundError:
        return
    except OSError:  # Windows renames no folder with an open file
        trash = folder
    shutil.rmtree(trash, ignore_errors=True)


def _age_s(folder: Path) -> float:
    newest = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
    return time.time() - newest
