"""Bytes on a local file system: durable writes, and publication in one atomic rename.

Two ideas. What is visible is whole: files are built in a staging folder that only one process
touches, synced, and renamed into place. What is staged has an owner that the kernel knows: a
process holds a shared ``flock`` on its staging folder, and the kernel releases it when the
process ends in whatever way, so nothing dead ever blocks or is kept.

Precondition: the store lies on one file system, whose rename of a folder is atomic. Hard links
are used where they exist.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from histoboost.cache.layout import STAGING
from histoboost.cache.liveness import Hold, hold, sole_owner
from histoboost.errors import HistoboostError

#: Where a file's content comes from: bytes, or the key of a file that is in the store already.
Source = bytes | str

_PARTIAL = ".partial-"

_REMEDIES = {
    errno.ENOSPC: "no space left on device; free some space",
    errno.EDQUOT: "disk quota exceeded; free some space",
    errno.EACCES: "permission denied; make it writable",
    errno.EPERM: "operation not permitted; make it writable",
    errno.EROFS: "read-only file system; use a store on a writable one",
}


@contextlib.contextmanager
def plain_errors(location: str) -> Iterator[None]:
    """Turn what the operating system refuses into one line."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        line = f"{location}: {remedy} and run the same command again, what is stored is kept"
        raise HistoboostError(line) from error


class LocalPlace:
    """A folder of a local file system.

    Parameters
    ----------
    root : Path
        The store's folder; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes | None:
        """Content of a file, None where there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def children(self, key: str) -> list[str]:
        """Names of files and folders directly below `key`, sorted."""
        try:
            return sorted(os.listdir(self.root / key))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, key: str) -> list[str]:
        """Paths of all files below `key`, relative to it; empty folders end in a slash."""
        top = self.root / key
        found = []
        for folder, folders, files in os.walk(top):
            base = Path(folder).relative_to(top)
            found += [(base / name).as_posix() for name in files]
            if not folders and not files and folder != str(top):
                found.append(f"{base.as_posix()}/")
        return sorted(found)

    def exists(self, key: str) -> bool:
        """Whether there is a file or folder."""
        return (self.root / key).exists()

    def size(self, key: str) -> int:
        """Bytes of a file, 0 where there is none."""
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def put(self, key: str, data: bytes) -> None:
        """Write a file durably: after a crash it is whole or as it was before."""
        target = self.root / key
        with plain_errors(str(self)):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
            try:
                _write(partial, data)
                # Only a closed and synced file is renamed, else a crash could leave a hole.
                os.replace(partial, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def hold(self, staging: str) -> Hold:
        """Make the staging folder and own it until the hold is released or the process ends."""
        with plain_errors(str(self)):
            return hold(self.root / STAGING / staging)

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        """Make a folder of files visible in one step, after reading back what was written.

        Parameters
        ----------
        staging : str
            Name of a staging folder that this process holds.
        target : str
            Folder to make; its parent exists.
        content : mapping
            Paths below `target` to their content.
        superseded : callable
            Says, once nobody else can publish, whether what is at `target` shall stay.

        Returns
        -------
        bool
            False if another process had published meanwhile, and this copy was dropped.
        """
        built = self.root / STAGING / staging / f"built-{uuid.uuid4().hex}"
        with plain_errors(str(self)):
            try:
                for key, source in content.items():
                    self._build(built / key, source)
                for folder, _, _ in os.walk(built, topdown=False):
                    _sync_folder(Path(folder))
                return self._swap(built, self.root / target, superseded)
            finally:
                shutil.rmtree(built, ignore_errors=True)

    def _build(self, path: Path, source: Source) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            _write(path, source)
            if path.read_bytes() != source:
                raise HistoboostError(f"{path}: reads back otherwise than written; check the disk")
            return
        try:
            os.link(self.root / source, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # This file system has no hard links: a second copy is the same bytes.
            _write(path, (self.root / source).read_bytes())

    def _swap(self, built: Path, target: Path, superseded: Callable[[], bool]) -> bool:
        with sole_owner(target.parent):
            if target.exists():
                if superseded():
                    return False
                os.rename(target, built.parent / f"old-{uuid.uuid4().hex}")
            try:
                os.rename(built, target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            _sync_folder(target.parent)
        return True

    def move(self, source: str, target: str) -> None:
        """Move a file or folder to a place where nothing is."""
        with plain_errors(str(self)):
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.root / source, self.root / target)

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        with plain_errors(str(self)):
            (self.root / key).unlink(missing_ok=True)

    def remove_folder(self, key: str) -> bool:
        """Take a folder away in one atomic step; False where there is none."""
        trash = f"trash-{uuid.uuid4().hex}"
        if not self.exists(key):
            return False
        with plain_errors(str(self)):
            owned = self.hold(trash)
            try:
                os.rename(self.root / key, self.root / STAGING / trash / "old")
            except FileNotFoundError:
                return False  # another process was quicker
            finally:
                owned.drop()
        return True


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            # So that reading back reads the disk, not the memory it was written from.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(path: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there, and their entries need no sync
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
