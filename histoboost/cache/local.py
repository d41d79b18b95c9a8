"""Bytes on a local file system: durable writes, and publication in one atomic rename.

Two ideas. What is visible is whole: files are built in a staging folder that only one process
touches, synced, and renamed into place. What is staged has an owner that the kernel knows: a
process holds a shared ``flock`` on its staging folder, and the kernel releases it when the
process ends in whatever way, so nothing dead ever blocks or is kept.

Precondition: the store lies on one file system, whose rename of a folder is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from histoboost.cache import liveness
from histoboost.cache.backend import Source, plain_errors
from histoboost.cache.layout import STAGING
from histoboost.errors import BadInput

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class LocalPlace:
    """A folder of a local file system; see `Place` for the methods.

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

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Content of several files, in order."""
        return map(self.read, keys)

    def fill(self, targets: Iterable[tuple[str, memoryview]]) -> Iterator[bytes | None]:
        """Read files into memory that is there already; see `Place.fill`."""
        for key, body in targets:
            try:
                with (self.root / key).open("rb", buffering=0) as file:
                    yield file.read() if file.readinto(body) == len(body) else None
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                yield None

    def children(self, key: str) -> list[str]:
        """Names of files and folders directly below `key`, sorted."""
        try:
            return sorted(os.listdir(self.root / key))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folders(self, key: str) -> list[str]:
        """Names of the folders directly below `key`, sorted."""
        # The listing says which are folders: a store of many slides is not asked for each.
        try:
            with os.scandir(self.root / key) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, key: str) -> dict[str, int]:
        """Paths below `key` of all files, with their bytes; empty folders end in a slash."""
        top = self.root / key
        found = {}
        for folder, folders, files in os.walk(top):
            base = Path(folder)
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile: not there
                    size = (base / name).lstat().st_size
                    found[(base / name).relative_to(top).as_posix()] = size
            if not folders and not files and base != top:
                found[f"{base.relative_to(top).as_posix()}/"] = 0
        return dict(sorted(found.items()))

    def exists(self, key: str) -> bool:
        """Whether there is a file or folder."""
        return (self.root / key).exists()

    def put(self, key: str, data: bytes) -> None:
        """Write a file durably: after a crash it is whole or as it was before."""
        self._refuse_links(key)
        if key.startswith(f"{STAGING}/"):
            with plain_errors(self):
                self._put(key, data, (self.root / key).parent)
            return
        # The half-written file lies in a staging folder too, or a killed run would leave it
        # where nobody could tell it from a live one's.
        name = f"put-{uuid.uuid4().hex}"
        held = self.hold(name)
        try:
            with plain_errors(self):
                self._put(key, data, self.root / STAGING / name)
        finally:
            held.drop()

    def _put(self, key: str, data: bytes, scratch: Path) -> None:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = scratch / f".partial-{uuid.uuid4().hex}"
        try:
            _write(partial, data)
            # Only a closed and synced file is renamed, else a crash could leave a hole.
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        self._refuse_links(key)
        with plain_errors(self):
            (self.root / key).unlink(missing_ok=True)

    def remove_folder(self, key: str) -> bool:
        """Take a folder away in one atomic step; False where there is none."""
        self._refuse_links(key)
        if not self.exists(key):
            return False
        trash = f"trash-{uuid.uuid4().hex}"
        with plain_errors(self):
            held = self.hold(trash)
            try:
                os.rename(self.root / key, self.root / STAGING / trash / "old")
            except FileNotFoundError:
                return False  # another process was quicker
            finally:
                held.drop()
        return True

    def hold(self, staging: str) -> liveness.FolderHold:
        """Make a staging folder and own it, together with others who hold it too."""
        self._refuse_links(f"{STAGING}/{staging}")
        with plain_errors(self):
            return liveness.hold(self.root / STAGING / staging)

    def abandoned(self, staging: str, older_than_s: float) -> liveness.FolderHold | None:
        """Own a staging folder alone if no live process holds it; None if one does."""
        self._refuse_links(STAGING)
        if (self.root / STAGING / staging).is_symlink():
            return None  # not made by a run: `verify` reports it
        with plain_errors(self):
            return liveness.abandoned(self.root / STAGING / staging, older_than_s)

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        """Build the folder beside, read it back, rename it into place."""
        self._refuse_links(target)
        built = self.root / STAGING / staging / f"built-{uuid.uuid4().hex}"
        with plain_errors(self):
            try:
                for key, source in content.items():
                    self._build(built / key, source)
                for folder, _, _ in os.walk(built, topdown=False):
                    _sync_folder(Path(folder))
                return self._swap(built, self.root / target, superseded)
            finally:
                shutil.rmtree(built, ignore_errors=True)

    def links(self) -> list[str]:
        """Keys of all symbolic links."""
        found = []
        for folder, folders, files in os.walk(self.root):
            paths = [Path(folder, name) for name in folders + files]
            found += [p.relative_to(self.root).as_posix() for p in paths if p.is_symlink()]
        return sorted(found)

    def _refuse_links(self, key: str) -> None:
        """Write and delete below the store's folder only, never where a link in it leads."""
        path = self.root
        for part in key.split("/"):
            path /= part
            if path.is_symlink():
                raise BadInput(
                    f"{path}: is a link, and nothing is written or deleted through links in a "
                    "store; put what it leads to in its place, or remove it"
                )

    def in_progress(self, target: str) -> bool:
        """Never: a folder appears whole."""
        return False

    def _build(self, path: Path, source: Source) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            staged = self.root / source
            try:
                # The caller has read the staged file back: the link is the same bytes on disk.
                _link(staged, path)
                return
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                source = staged.read_bytes()
        _write(path, source)
        if path.read_bytes() != source:
            raise BadInput(f"{path}: reads back otherwise than written; check the disk")

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
            _sync_folder(target.parent)
        return True


def _link(staged: Path, path: Path) -> None:
    while True:
        try:
            os.link(staged, path)
            return
        except FileNotFoundError:
            # Linux says so too when another process puts the same file in its place just then.
            if not staged.exists():
                raise


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there, and their entries need no sync
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
