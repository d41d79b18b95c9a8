"""A bundle is replaced atomically, and only its own files are deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostError
from histoboost.regress.bundle import check_target, read_bundle, write_bundle
from histoboost.regress.heads.base import Files


class Killed(BaseException):
    """Stands for the end of the process."""


def content(number: int) -> Files:
    """A bundle with `number` in every part but one file, which is the same in all."""
    arrays = {"mean": np.full(3, float(number)), "same": np.zeros(2)}
    return Files({"number": number}, {"tree_000": f"tree {number}"}, arrays)


def number_of(folder: Path) -> int:
    fields, texts, arrays = read_bundle(folder)
    found = {fields["number"], int(texts["tree_000"].split()[1]), int(arrays["mean"][0])}
    assert len(found) == 1, "parts of two bundles"
    return int(found.pop())


def as_format_1(folder: Path) -> None:
    """Name the files as histoboost 0.1.0 did."""
    document = json.loads((folder / "model.json").read_text())
    document["histoboost_model"] = 1
    for name, digest in document["files"].items():
        stem, _, suffix = name.rpartition(".")
        (folder / f"{stem}-{digest}.{suffix}").rename(folder / name)
    (folder / "model.json").write_text(json.dumps(document))


@pytest.fixture(params=[1, 2])
def bundle(tmp_path, request):
    """A bundle of the format of 0.1.0, and one of today's."""
    write_bundle(tmp_path / "m", content(1))
    if request.param == 1:
        as_format_1(tmp_path / "m")
    assert number_of(tmp_path / "m") == 1
    return tmp_path / "m"


CALLS = ["replace", "fsync", "unlink", "write"]


def fail_at(monkeypatch: pytest.MonkeyPatch, call: str, step: int, error: BaseException) -> None:
    """Let the `step`-th call of one kind fail."""
    owner, name = {"unlink": (Path, "unlink"), "write": (Path, "write_bytes")}.get(call, (os, call))
    original, seen = getattr(owner, name), [0]

    def failing(*arguments, **more):
        seen[0] += 1
        if seen[0] == step:
            raise error
        return original(*arguments, **more)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_or_a_full_disk_leaves_the_old_bundle_or_the_new_one(
    bundle, call, step, error, monkeypatch
):
    with monkeypatch.context() as patch:
        fail_at(patch, call, step, error)
        try:
            write_bundle(bundle, content(2))
        except HistoboostError as line:
            said = str(line)
            assert "No space left on device" in said
            assert "\n" not in said
        except Killed:
            pass
    assert number_of(bundle) in (1, 2)
    write_bundle(bundle, content(3))
    assert number_of(bundle) == 3
    # model.json, a tree and two arrays; files of 0.1.0 whose removal was killed are in no index.
    plain = {"tree_000.txt", "mean.npy", "same.npy"}
    assert len({path.name for path in bundle.iterdir()} - plain) == 4


def test_a_reader_beside_a_save_gets_one_or_the_other(bundle, monkeypatch):
    original, saves = Path.read_bytes, [2, 3]

    def read(path: Path) -> bytes:
        data = original(path)
        if saves and path.name == "model.json":
            with monkeypatch.context() as patch:
                patch.setattr(Path, "read_bytes", original)
                write_bundle(bundle, content(saves.pop(0)))
        return data

    monkeypatch.setattr(Path, "read_bytes", read)
    assert number_of(bundle) == 3


def test_only_the_files_of_the_older_bundle_go(bundle):
    mine = {"notes.txt": b"a", "tree_000.csv": b"b", "sub/mean.npy": b"c", "report.html": b"d"}
    for name, data in mine.items():
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(data)
    write_bundle(bundle, content(2))
    assert number_of(bundle) == 2
    assert {name: (bundle / name).read_bytes() for name in mine} == mine
    assert len(list(bundle.iterdir())) == 4 + 4


@pytest.mark.parametrize("document", ['{"model": "other"}', "{", "[]", '{"histoboost_model": "1"}'])
def test_a_folder_with_some_other_model_json_is_refused(tmp_path, document):
    (tmp_path / "model.json").write_text(document)
    (tmp_path / "weights.bin").write_bytes(b"mine")
    for attempt in (lambda: check_target(tmp_path), lambda: write_bundle(tmp_path, content(1))):
        with pytest.raises(HistoboostError, match=r"model\.json") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.bin"]
    assert (tmp_path / "model.json").read_text() == document


def test_names_in_a_bundle_lead_to_no_deletion_outside_of_it(bundle):
    victim = bundle.parent / "victim.txt"
    victim.write_text("mine")
    document = json.loads((bundle / "model.json").read_text())
    document["files"] |= {"../victim.txt": "0" * 64, "a.txt": "/../../victim", "b.npy": 3}
    (bundle / "model.json").write_text(json.dumps(document))
    write_bundle(bundle, content(2))
    assert victim.read_text() == "mine"
    assert number_of(bundle) == 2


def test_a_model_that_is_a_link_stays_one_and_its_target_is_replaced(bundle):
    alias = bundle.parent / "alias"
    alias.symlink_to(bundle)
    write_bundle(alias, content(2))
    assert alias.is_symlink()
    assert number_of(bundle) == number_of(alias) == 2
    new = bundle.parent / "new"
    new.symlink_to(bundle.parent / "made")
    write_bundle(new, content(4))
    assert new.is_symlink()
    assert number_of(bundle.parent / "made") == 4
