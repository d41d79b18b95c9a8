"""Corrected labels replace stored ones without embedding again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from histoboost.cache import labels as labels_module
from histoboost.cache.local import LocalBackend
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError

OTHER = {
    "abundance": np.arange(2100 * 2, dtype=np.float32).reshape(2100, 2),
    "cell_types": ("B cell", "fibroblast"),
    "split": "test",
    "group": "patient 7",
}
NONE = {"abundance": None, "cell_types": (), "split": None}  # the group stays


@pytest.fixture
def labelled(store: EmbeddingStore, put) -> EmbeddingStore:
    put(store, "S_1", "net@64")
    return store


@pytest.mark.parametrize("labels", [OTHER, NONE, {**OTHER, "split": None}])
def test_a_relabelled_store_equals_a_new_one(labelled, tmp_path, table, put, files, labels):
    assert list(labelled.relabel([table("S_1", **labels)])) == ["S_1"]
    fresh = EmbeddingStore(tmp_path / "fresh")
    fresh.write_spots(table("S_1", **labels))
    put(fresh, "S_1", "net@64")
    assert files(labelled.location) == files(fresh.location)
    assert not labelled.verify().damaged
    assert labelled.relabel([table("S_1", **labels)]) == {}


def test_changes_are_reported(labelled, table):
    changes = labelled.relabel([table("S_1", **{**OTHER, **NONE})])
    assert changes == {"S_1": ["abundance removed", "split removed", "group changed"]}
    changes = labelled.relabel([table("S_1", **OTHER)])
    assert changes == {"S_1": ["abundance added", "split added"]}
    renamed = {**OTHER, "cell_types": ("B cell", "macrophage")}
    assert labelled.relabel([table("S_1", **renamed)]) == {"S_1": ["cell types changed"]}


def test_the_stored_group_stays_if_the_source_has_none(labelled, table, put):
    labelled.relabel([table("S_1", group="patient 7")])
    ungrouped = table("S_1", group=None)
    assert labelled.relabel([ungrouped]) == {}
    labelled.write_spots(ungrouped)
    assert put(labelled, "S_1", "net@64") == 0
    assert labelled.spots("S_1").group == "patient 7"


def test_a_damaged_slide_in_a_group_is_not_repaired_without_it(labelled, table):
    location = Path(labelled.location)
    (location / "slides/S_1/obsm/spatial/zarr.json").write_bytes(b"")
    with pytest.raises(HistoboostError, match="S_1 is damaged and has a group.*add --groups FILE"):
        labelled.write_spots(table("S_1", group=None))
    labelled.write_spots(table("S_1"))
    assert labelled.spots("S_1").group == "patient 1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 2000}, r"xy has shape \(2100, 2\) in the store, \(2000, 2\) in"),
        ({"um_per_px": 0.25}, "um_per_px is"),
        ({"image_shape": (9, 9)}, "image_shape differs"),
    ],
)
def test_different_spots_are_refused(labelled, table, files, tmp_path, changes, message):
    labelled.write_spots(table("S_0", n=5))
    before = files(labelled.location)
    with pytest.raises(HistoboostError, match=f"slide S_1: {message}.*only labels can be replaced"):
        labelled.relabel([table("S_0", n=5, group="new"), table("S_1", **changes)])
    assert files(labelled.location) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 2000}, "xy has shape .*; use another store"),
        ({"group": "patient 7"}, "group is .*; histoboost cache relabel .* DATA"),
    ],
)
def test_write_spots_refuses_a_different_table_with_the_remedy(labelled, table, changes, message):
    with pytest.raises(HistoboostError, match=message):
        labelled.write_spots(table("S_1", **changes))


@pytest.mark.parametrize("labels", [OTHER, NONE], ids=["other", "none"])
def test_a_relabelling_killed_at_any_step_is_completed_by_the_same_call(
    tmp_path, table, files, monkeypatch, labels
):
    if labels["abundance"] is not None:
        labels = {**labels, "abundance": labels["abundance"][:50]}
    old, new = table("S_1", n=50), table("S_1", n=50, **labels)
    wanted = EmbeddingStore(tmp_path / "wanted")
    wanted.write_spots(new)
    steps = 0
    while True:
        store = EmbeddingStore(tmp_path / f"store-{steps}")
        store.write_spots(old)
        with monkeypatch.context() as patch:
            killed = _kill_at(steps, patch)
            try:
                store.relabel([new])
            except KeyboardInterrupt:
                assert killed
        with contextlib.suppress(HistoboostError):  # damaged
            seen = store.spots("S_1")
            assert not seen.differences(old) or not seen.differences(new)
        store.relabel([new])
        assert files(store.location) == files(wanted.location), steps
        if not killed:
            break
        steps += 1
    assert steps > 3


def test_a_relabelling_cut_off_between_two_slides_is_known_and_mended(
    run, refusal, labelled, table, put, tmp_path, monkeypatch
):
    for slide in ("S_2", "S_3"):
        labelled.write_spots(table(slide))
        put(labelled, slide, "net@64")
    new = [table(slide, group="patient 7") for slide in ("S_1", "S_2", "S_3")]
    original = labels_module._write_labels

    def cut_off(backend, one):
        if one.slide == "S_2":
            raise KeyboardInterrupt
        return original(backend, one)

    with monkeypatch.context() as patch:
        patch.setattr(labels_module, "_write_labels", cut_off)
        with pytest.raises(KeyboardInterrupt):
            labelled.relabel(new)
    labelled.gc(older_than_s=0)  # keeps the note
    assert labelled.pending_labels() == ["S_2", "S_3"]
    for command in (["evaluate", labelled.location], ["train", labelled.location, "model"]):
        assert "S_2, S_3 have old labels" in refusal(*command)
    found = tmp_path / "found.json"
    listed = run("cache", "list", labelled.location, "--json", found)
    assert "Outdated labels: S_2, S_3." in listed.output
    assert json.loads(found.read_text())["old_labels"] == ["S_2", "S_3"]
    assert labelled.relabel(new[1:2]) != {}  # part of it by another run
    assert labelled.pending_labels() == ["S_3"]
    assert list(labelled.relabel(new)) == ["S_3"]
    assert labelled.pending_labels() == []
    assert labelled.relabel([table("S_1", group="patient 9")]) != {}
    assert labelled.pending_labels() == []


def _kill_at(step: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt the run at the given change of a file; empty unless that happened."""
    killed: list[int] = []
    done = 0
    for name in ("put", "remove_folder"):
        original = getattr(LocalBackend, name)

        def dying(place: LocalBackend, *args: object, original=original) -> object:
            nonlocal done
            if done == step:
                killed.append(step)
                raise KeyboardInterrupt
            done += 1
            return original(place, *args)

        patch.setattr(LocalBackend, name, dying)
    return killed
