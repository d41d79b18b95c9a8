"""Ownership of staging folders with and without locks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from histoboost.cache import liveness

HOUR = 3600.0


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, such as Lustre mounted without them."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(liveness.fcntl, "flock", flock)


def last_changed(folder: Path, seconds_ago: float) -> None:
    for path in [*folder.rglob("*"), folder]:
        stamp = path.stat().st_mtime - seconds_ago
        os.utime(path, (stamp, stamp))


@pytest.mark.parametrize(("seconds_ago", "claimed"), [(HOUR / 2, False), (2 * HOUR, True)])
def test_without_locks_a_folder_counts_as_held_while_it_is_young(
    tmp_path: Path, without_locks: None, seconds_ago: float, claimed: bool
) -> None:
    liveness.hold(tmp_path / "unit").release()
    last_changed(tmp_path / "unit", seconds_ago)
    found = liveness.abandoned(tmp_path / "unit", HOUR)
    assert (found is not None) == claimed
    if found is not None:
        found.drop()
    assert (tmp_path / "unit").exists() != claimed


def test_without_locks_a_folder_that_others_may_hold_is_kept(tmp_path, without_locks):
    liveness.hold(tmp_path / "unit").drop()
    assert (tmp_path / "unit").exists()
