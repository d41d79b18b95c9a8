"""What the store asks of the place it lies in; a local folder and an object store provide it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

#: Where a file's content comes from: bytes, or the key of a staged file whose name ends in the
#: SHA-256 of its content.
Source = bytes | str


class Hold(Protocol):
    """A claim on a staging folder, which ends with the process at the latest."""

    def release(self) -> None:
        """Give the folder up and leave its content for a later run."""

    def drop(self) -> None:
        """Give the folder up, and delete it if nobody else holds it."""


class Backend(Protocol):
    """Files by key, such as ``slides/S_1/zarr.json``."""

    def read(self, key: str) -> bytes | None:
        """Content of a file, None where there is none."""

    def fault(self, key: str) -> str:
        """Why `read` gives None: ``"is missing"``, or what keeps the file from being read."""

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Content of several files, in order."""

    def fill(self, targets: Iterable[tuple[str, memoryview]]) -> Iterator[bytes | None]:
        """Read files into memory that is there already, as far as each memoryview goes.

        Yields what follows in the file, in order; None where the file is missing or shorter.
        """

    def children(self, key: str) -> list[str]:
        """Names of files and folders directly below `key`, sorted."""

    def folders(self, key: str) -> list[str]:
        """Names of the folders directly below `key`, sorted."""

    def walk(self, key: str) -> dict[str, int]:
        """Paths below `key` of all files, with their bytes; empty folders end in a slash."""

    def links(self) -> list[str]:
        """Keys of all symbolic links, sorted."""

    def exists(self, key: str) -> bool:
        """Whether there is a file or folder."""

    def stamp(self, key: str) -> list[int] | None:
        """What of a file or folder changes with it, the time of the change last, in ns.

        None where there is none, or where asking costs what reading does.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write a file durably: after a crash it is whole or as it was before."""

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""

    def remove_folder(self, key: str) -> bool:
        """Take a folder away so that no reader sees half of it; False where there is none."""

    def hold(self, staging: str) -> Hold:
        """Make a staging folder and own it, together with others who hold it too."""

    def abandoned(self, staging: str, older_than_s: float) -> Hold | None:
        """Own a staging folder alone if no live process holds it; None if one does.

        Where that cannot be told, a folder is held until nothing in it has changed for
        `older_than_s` seconds.
        """

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        """Make a folder of files visible in one step, after reading back what was written.

        This process holds `staging`; the folder around `target` exists. `content` are paths below
        it, among them ``zarr.json``. `superseded` says, where something is there, whether it shall
        stay. False if another process had published meanwhile, and this copy was dropped.
        """

    def in_progress(self, target: str) -> bool:
        """Whether files at `target` may be those of a publication that is not finished."""
