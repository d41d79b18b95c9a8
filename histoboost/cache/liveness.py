"""Ownership of staging folders by kernel locks, which end with their process."""

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

#: Windows has no flock: there age decides, see `abandoned`.
_HAS_LOCKS = find_spec("fcntl") is not None
if _HAS_LOCKS:
    import fcntl

_LOCK = "lock"
# An attempt fails if the last owner deletes the folder at that moment.
_ATTEMPTS = 1000
# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class FolderHold:
    """A claim on a staging folder by its open and locked file `descriptor`.

    `alone` if no other process seems to hold it.
    """

    def __init__(self, folder: Path, descriptor: int, *, alone: bool = False) -> None:
        self._folder = folder
        self._alone = alone
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor

    def drop(self) -> None:
        """Give up the folder, and delete it unless another process holds it."""
        if not self._close.alive:
            return
        if self._alone or _lock(self._descriptor, exclusive=True):
            _remove(self._folder)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()  # fails unless empty
        self._close()

    def release(self) -> None:
        """Give up the folder and keep its content for a later run."""
        self._close()


def hold(folder: Path) -> FolderHold:
    """Create `folder` and claim it; several processes may."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):
            if left == 0:
                raise  # a dangling link or a file is in the way
            continue  # just deleted by its last owner
        _lock(descriptor, exclusive=False)
        if _is_at(descriptor, folder / _LOCK):
            return FolderHold(folder, descriptor)
        os.close(descriptor)  # deleted by its last owner while we waited
    raise FileExistsError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))


def abandoned(folder: Path, older_than_s: float) -> FolderHold | None:
    """Claim `folder` exclusively; None if a live process holds it.

    Without locks, a folder counts as held until nothing in it has changed for `older_than_s`
    seconds; with 0, forever.
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
    """Enter as the only process for `folder`; waits for others, which take milliseconds."""
    if not _HAS_LOCKS:
        yield  # the rename inside is atomic anyway
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
    """Whether the file could be locked; None if its file system has no locks."""
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
    # Renamed first, or a process that claims the folder meanwhile would keep half of it.
    trash = folder.with_name(f"trash-{uuid.uuid4().hex}")
    try:
        os.rename(folder, trash)
    except FileNotFoundError:
        return
    except OSError:  # Windows cannot rename a folder with an open file
        trash = folder
    shutil.rmtree(trash, ignore_errors=True)


def _age_s(folder: Path) -> float:
    newest = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
    return time.time() - newest
