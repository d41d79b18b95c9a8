"""Store in object storage (S3, GCS, Azure), without renames or locks.

A folder is published in four steps: its content is staged under names that end in the digest; a
*claim*, put only if there is none, lists the staged objects of the folder; these are copied; and
``zarr.json``, without which readers see nothing, is put last, only if there is none. A claim is not
a lock: any process that finds one executes it, whether or not its owner lives, and all copy the
same bytes.

Precondition: the object store supports conditional puts (``If-None-Match``, ``If-Match``) and is
strongly consistent, as S3, GCS and Azure are.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from histoboost.cache.backend import Source
from histoboost.cache.layout import ROOT_DOCUMENT, STAGING
from histoboost.digests import digest_bytes
from histoboost.errors import BadInput, require

SCHEMES = ("s3", "gs", "az")

_PARALLEL = 8

# Unless in the claim, left by a larger predecessor; other objects may be foreign.
_CHUNK = re.compile(r"c/\d+/0")


class _Outcome(Enum):
    """Outcome of executing a claim."""

    PUBLISHED = "this call put zarr.json"
    OVERTAKEN = "another process has finished it, or staged objects are gone"
    WAS_THERE = "the folder was published before"


class ObjectBackend:
    """A prefix in a bucket, such as ``s3://bucket/prefix``; see `Backend` for the methods.

    Credentials, region and endpoint come from the usual environment variables
    (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on).
    """

    def __init__(self, url: str) -> None:
        scheme = url.split("://", 1)[0]
        if scheme not in SCHEMES:
            raise BadInput(f"{url}: unknown scheme {scheme!r}; use {', '.join(SCHEMES)}")
        require(url, "obstore", "cloud")
        import obstore

        self._url = url.rstrip("/")
        self._obs: Any = obstore
        self._store: Any = obstore.store.from_url(self._url)

    def __str__(self) -> str:
        return self._url

    def read(self, key: str) -> bytes | None:
        found = self._get(key)
        return None if found is None else found[0]

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            yield from pool.map(self.read, keys)

    def fill(self, targets: Iterable[tuple[str, memoryview]]) -> Iterator[bytes | None]:
        targets = list(targets)
        found = self.read_many(key for key, _ in targets)
        for (_, body), data in zip(targets, found, strict=True):
            if data is None or len(data) < len(body):
                yield None
            else:
                body[:] = data[: len(body)]
                yield data[len(body) :]

    def fault(self, key: str) -> str:
        return "is missing"

    def children(self, key: str) -> list[str]:
        folders, objects = self._list(key)
        return sorted(folders | objects)

    def folders(self, key: str) -> list[str]:
        return sorted(self._list(key)[0])

    def walk(self, key: str) -> dict[str, int]:
        start = len(key) + 1 if key else 0
        return {meta["path"][start:]: meta["size"] for meta in self._metas(key)}

    def exists(self, key: str) -> bool:
        with self._plain_errors():
            try:
                self._obs.head(self._store, key)
            except FileNotFoundError:
                return bool(self.children(key))
            return True

    def stamp(self, key: str) -> list[int] | None:
        return None

    def put(self, key: str, data: bytes) -> None:
        with self._plain_errors():
            self._obs.put(self._store, key, data)

    def delete(self, key: str) -> None:
        # Only some stores report a missing object.
        with self._plain_errors(), contextlib.suppress(FileNotFoundError):
            self._obs.delete(self._store, key)

    def _delete_all(self, keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self.delete, keys))

    def remove_folder(self, key: str) -> bool:
        paths = self.walk(key)
        self.delete(f"{key}/{ROOT_DOCUMENT}")
        self.delete(_claim_key(key))
        self._delete_all(f"{key}/{path}" for path in paths if path != ROOT_DOCUMENT)
        return bool(paths)

    def hold(self, staging: str) -> ObjectHold:
        return ObjectHold(self, staging)

    def abandoned(self, staging: str, older_than_s: float) -> ObjectHold | None:
        changes = [meta["last_modified"] for meta in self._metas(f"{STAGING}/{staging}")]
        if not changes:
            return None  # just removed by another process
        age_s = (datetime.now(UTC) - max(changes)).total_seconds()
        return ObjectHold(self, staging) if age_s > older_than_s else None

    def publish(
        self,
        staging: str,
        target: str,
        content: Mapping[str, Source],
        superseded: Callable[[], bool],
    ) -> bool:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            keys = pool.map(lambda source: self._stage(staging, source), content.values())
            staged = dict(zip(content, keys, strict=True))
        own = json.dumps(staged, sort_keys=True).encode()
        while True:
            mine = self._put_if(_claim_key(target), own, "create")
            claim = own if mine else self.read(_claim_key(target))
            if claim is None:
                continue  # executed between the two lines
            outcome = self._execute(json.loads(claim), target, superseded)
            self.delete(_claim_key(target))
            if mine and outcome is _Outcome.PUBLISHED:
                return True
            if superseded():
                # A claim of ours that another process finished counts as ours.
                return mine and outcome is not _Outcome.WAS_THERE
            if mine:
                raise BadInput(
                    f"{self}: staged chunks of {target} have disappeared; run the same command "
                    "again"
                )

    def links(self) -> list[str]:
        return []

    def in_progress(self, target: str) -> bool:
        if self.read(f"{target}/{ROOT_DOCUMENT}") is not None:
            return False
        return self.read(_claim_key(target)) is not None

    def _execute(
        self, claim: dict[str, str], target: str, superseded: Callable[[], bool]
    ) -> _Outcome:
        found = self._get(f"{target}/{ROOT_DOCUMENT}")
        if found is not None and superseded():
            return _Outcome.WAS_THERE
        document = self.read(claim[ROOT_DOCUMENT])
        if document is None:
            return _Outcome.OVERTAKEN
        copies = {f"{target}/{path}": key for path, key in claim.items() if path != ROOT_DOCUMENT}
        with ThreadPoolExecutor(_PARALLEL) as pool:
            if not all(pool.map(self._copy, copies.values(), copies)):
                return _Outcome.OVERTAKEN
        leftover = {path for path in self.walk(target) if _CHUNK.fullmatch(path)} - set(claim)
        self._delete_all(f"{target}/{path}" for path in leftover)
        key = f"{target}/{ROOT_DOCUMENT}"
        done = self._put_if(key, document, "create" if found is None else {"e_tag": found[1]})
        return _Outcome.PUBLISHED if done else _Outcome.OVERTAKEN

    def _stage(self, staging: str, source: Source) -> str:
        if isinstance(source, str):
            return source
        key = f"{STAGING}/{staging}/files/{digest_bytes(source)}"
        self.put(key, source)
        return key

    def _get(self, key: str) -> tuple[bytes, str | None] | None:
        with self._plain_errors():
            try:
                answer = self._obs.get(self._store, key)
            except FileNotFoundError:
                return None
            return bytes(answer.bytes()), answer.meta["e_tag"]

    def _put_if(self, key: str, data: bytes, mode: Any) -> bool:
        """Put an object conditionally; False if the condition fails."""
        failed = self._obs.exceptions.AlreadyExistsError, self._obs.exceptions.PreconditionError
        with self._plain_errors():
            try:
                self._obs.put(self._store, key, data, mode=mode)
            except failed:
                return False
            return True

    def _copy(self, source: str, target: str) -> bool:
        """Copy a staged object and read it back; False if it is gone."""
        with self._plain_errors():
            try:
                self._obs.copy(self._store, source, target)
            except FileNotFoundError:
                return False
        data = self.read(target)
        if data is None or not source.endswith(digest_bytes(data)):
            raise BadInput(f"{self}/{target}: data read back differ from data written; try again")
        return True

    def _list(self, key: str) -> tuple[set[str], set[str]]:
        with self._plain_errors():
            listing = self._obs.list_with_delimiter(self._store, key or None)
            folders = {path.rstrip("/").rsplit("/", 1)[-1] for path in listing["common_prefixes"]}
            return folders, {meta["path"].rsplit("/", 1)[-1] for meta in listing["objects"]}

    def _metas(self, key: str) -> list[Any]:
        with self._plain_errors():
            prefix = f"{key}/" if key else None
            return [meta for batch in self._obs.list(self._store, prefix) for meta in batch]

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Turn errors of the object store into one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except self._obs.exceptions.BaseError as error:
            reason = " ".join(str(error).split())[:300]
            raise BadInput(
                f"{self}: {reason}; check bucket, credentials and endpoint, then run the same "
                "command again; stored chunks are kept"
            ) from error


class ObjectHold:
    """A staging folder in an object store; without owner, only its age protects it."""

    def __init__(self, backend: ObjectBackend, staging: str) -> None:
        self._backend, self._folder = backend, f"{STAGING}/{staging}"

    def release(self) -> None:
        """Keep what is staged for a later run."""

    def drop(self) -> None:
        """Delete what is staged."""
        self._backend.remove_folder(self._folder)


def _claim_key(target: str) -> str:
    return f"{STAGING}/claim-{digest_bytes(target.encode())[:32]}/claim.json"
