"""Storage interface of the store, implemented for local folders and object stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

#: Content of a file to publish: bytes, or the key of a staged file whose name ends in the SHA-256
#: of its content.
Source = bytes | str


class Hold(Protocol):
    """A claim on a staging folder; ends with the process at the latest."""

    def release(self) -> None:
        """Give up the folder and keep its content for a later run."""

    def drop(self) -> None:
        """Give up the folder, and delete it unless another process holds it."""


class Backend(Protocol):
    """Files by key, such as ``slides/S_1/zarr.json``."""

    def read(self, key: str) -> bytes | None:
        """Content of a file; None if it cannot be read."""

    def fault(self, key: str) -> str:
        """Why `read` returned None: ``"is missing"``, or why the file is unreadable."""

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Content of several files, in order."""

    def fill(self, targets: Iterable[tuple[str, memoryview]]) -> Iterator[bytes | None]:
        """Read the beginning of each file into its memoryview.

        Yields the rest of each file, in order; None if it is missing or shorter.
        """

    def children(self, key: str) -> list[str]:
        """Names of files and folders directly below `key`, sorted."""

    def folders(self, key: str) -> list[str]:
        """Names of the folders directly below `key`, sorted."""

    def walk(self, key: str) -> dict[str, int]:
        """Size in bytes of every file below `key`, by path; empty folders end in a slash."""

    def links(self) -> list[str]:
        """Keys of all symbolic links, sorted."""

    def exists(self, key: str) -> bool:
        """Whether there is a file or folder."""

    def stamp(self, key: str) -> list[int] | None:
        """Fingerprint of a file or folder that ends in its change time in ns.

        None if there is none, or if stamps cost as much as reading.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write a file durably: after a crash it is either new or unchanged."""

    def delete(self, key: str) -> None:
        """Delete a file if it exists."""

    def remove_folder(self, key: str) -> bool:
        """Remove a folder without exposing half of it to readers; False if there is none."""

    def hold(self, staging: str) -> Hold:
        """Create a staging folder and claim it; several processes may."""

    def abandoned(self, staging: str, older_than_s: float) -> Hold | None:
        """Claim a staging folder exclusively; None if a live process holds it.

        If the owner's state is unknown, a folder counts as held until nothing in it has changed
        for `older_than_s` seconds.
        """

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        """Make a folder of files visible in one step, after reading back what was written.

        This process holds `staging`; the parent of `target` exists. `content` maps paths in the
        folder, including ``zarr.json``, to their source. If the target exists, `superseded` decides
        whether it stays. False if another process published first and this copy was dropped.
        """

    def in_progress(self, target: str) -> bool:
        """Whether files at `target` may belong to an unfinished publication."""
