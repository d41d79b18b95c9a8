"""Store on a local file system: durable writes, and publication in one atomic rename.

Visible files are complete: they are built in a staging folder that only one process touches, synced
and renamed into place. Staged files have an owner that the kernel knows: a process holds a shared
``flock`` on its staging folder until it ends in whatever way, so that dead runs never block others.

Precondition: the store is on one file system, where renaming a folder is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path

from histoboost.cache import liveness
from histoboost.cache.backend import Source
from histoboost.cache.layout import STAGING
from histoboost.errors import BadInput
from histoboost.io import plain_errors, sync, sync_folder

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for a pipe to be written
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class LocalBackend:
    """A local folder, which need not exist yet; see `Backend` for the methods."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes | None:
        try:
            with _open(self._path(key)) as file:
                return file.read()
        except OSError:
            return None

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"  # ten times faster than Path

    def fault(self, key: str) -> str:
        try:
            _open(self._path(key)).close()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "cannot be read"

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        return map(self.read, keys)

    def fill(self, targets: Iterable[tuple[str, memoryview]]) -> Iterator[bytes | None]:
        for key, body in targets:
            try:
                with _open(self._path(key)) as file:
                    yield file.read() if file.readinto(body) == len(body) else None
            except OSError:
                yield None

    def children(self, key: str) -> list[str]:
        return sorted(entry.name for entry in self._entries(key))

    def folders(self, key: str) -> list[str]:
        # The listing knows which entries are folders: no stat of each.
        return sorted(entry.name for entry in self._entries(key) if entry.is_dir())

    def _entries(self, key: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / key) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: OSError) -> BadInput:
        return BadInput(f"{self.root / key}: cannot be read ({error.strerror}); make it readable")

    def walk(self, key: str) -> dict[str, int]:
        top = self.root / key
        found = {}
        for folder, folders, files in os.walk(top):
            base = Path(folder)
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    size = (base / name).lstat().st_size
                    found[(base / name).relative_to(top).as_posix()] = size
            if not folders and not files and base != top:
                found[f"{base.relative_to(top).as_posix()}/"] = 0
        return dict(sorted(found.items()))

    def links(self) -> list[str]:
        found = []
        for folder, folders, files in os.walk(self.root):
            paths = [Path(folder, name) for name in folders + files]
            found += [p.relative_to(self.root).as_posix() for p in paths if p.is_symlink()]
        return sorted(found)

    def exists(self, key: str) -> bool:
        try:
            os.stat(self._path(key))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise self._unreadable(key, error) from error
        return True

    def stamp(self, key: str) -> list[int] | None:
        try:
            status = os.stat(self._path(key))
        except OSError:
            return None
        return [status.st_ino, status.st_size, status.st_ctime_ns]

    def put(self, key: str, data: bytes) -> None:
        with self._changing(key):
            if key.startswith(f"{STAGING}/"):
                self._put(key, data, (self.root / key).parent)
                return
            # Half-written files are staged, too: `gc` then removes those of killed runs.
            name = f"put-{uuid.uuid4().hex}"
            held = self.hold(name)
            try:
                self._put(key, data, self.root / STAGING / name)
            finally:
                held.drop()

    def _put(self, key: str, data: bytes, scratch: Path) -> None:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = scratch / f".partial-{uuid.uuid4().hex}"
        try:
            _write(partial, data)
            # Closed and synced first, or a crash could leave a hole.
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def delete(self, key: str) -> None:
        with self._changing(key):
            (self.root / key).unlink(missing_ok=True)

    def remove_folder(self, key: str) -> bool:
        with self._changing(key):
            if not self.exists(key):
                return False
            trash = f"trash-{uuid.uuid4().hex}"
            held = self.hold(trash)
            try:
                os.rename(self.root / key, self.root / STAGING / trash / "old")
            except FileNotFoundError:
                return False  # another process was faster
            finally:
                held.drop()
        return True

    def hold(self, staging: str) -> liveness.FolderHold:
        with self._changing(f"{STAGING}/{staging}"):
            return liveness.hold(self.root / STAGING / staging)

    def abandoned(self, staging: str, older_than_s: float) -> liveness.FolderHold | None:
        if (self.root / STAGING / staging).is_symlink():
            return None  # not ours: `verify` reports it
        with self._changing(STAGING):
            return liveness.abandoned(self.root / STAGING / staging, older_than_s)

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        built = self.root / STAGING / staging / f"built-{uuid.uuid4().hex}"
        with self._changing(target):
            try:
                for key, source in content.items():
                    self._build(built / key, source)
                for folder, _, _ in os.walk(built, topdown=False):
                    sync_folder(Path(folder))
                return self._swap(built, self.root / target, superseded)
            finally:
                shutil.rmtree(built, ignore_errors=True)

    def in_progress(self, target: str) -> bool:
        return False  # folders appear complete

    @contextlib.contextmanager
    def _changing(self, key: str) -> Iterator[None]:
        """Refuse links on the way to `key`; turn errors of writing into one line."""
        path = self.root
        for part in key.split("/"):
            path /= part
            if path.is_symlink():
                raise BadInput(
                    f"{path}: is a link, and stores are not written through links; replace it by "
                    "its target, or remove it"
                )
        with plain_errors(self, "then run the same command again; stored chunks are kept"):
            yield

    def _build(self, path: Path, source: Source) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            staged = self.root / source
            try:
                # The caller has read the staged file back; a link has the same bytes on disk.
                _link(staged, path)
                return
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                source = staged.read_bytes()
        _write(path, source)
        if path.read_bytes() != source:
            raise BadInput(f"{path}: data read back differ from data written; check the disk")

    def _swap(self, built: Path, target: Path, superseded: Callable[[], bool]) -> bool:
        with liveness.sole_owner(target.parent):
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
            sync_folder(target.parent)
        return True


def _open(path: str) -> FileIO:
    """Open a regular file; pipes and devices could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _NO_WAITING)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return FileIO(descriptor)


def _link(staged: Path, path: Path) -> None:
    while True:
        try:
            os.link(staged, path)
            return
        except FileNotFoundError:
            # Also raised by Linux while another process replaces the file.
            if not staged.exists():
                raise


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    sync(path)
