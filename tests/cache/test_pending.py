"""A run interrupted between two slides leaves a note of the missing ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.phantom import write_phantom
from histoboost.regress.slides import labelled_slides, unlabelled_slides


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_phantom(tmp_path / "slides.h5", slides=3, unlabelled=1, spots=20)


@pytest.fixture
def cut_off(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingStore:
    """A store whose run was interrupted before the third of four slides."""
    write_spots = EmbeddingStore.write_spots

    def two_only(store: EmbeddingStore, table, order=None):
        if order == 2:
            raise KeyboardInterrupt
        write_spots(store, table, order)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "write_spots", two_only)
        with pytest.raises(KeyboardInterrupt):
            featurize(data, tmp_path / "store", backbone="stain-texture", patch=[16])
    return EmbeddingStore(tmp_path / "store")


def test_missing_slides_are_listed(run, cut_off: EmbeddingStore) -> None:
    assert cut_off.slides() == ["S_1", "S_2"]
    assert cut_off.pending_slides() == ["S_3", "S_4"]
    assert "Missing slides: S_3, S_4." in run("cache", "list", cut_off.location).stdout


def test_using_all_slides_warns_of_missing_ones(cut_off: EmbeddingStore) -> None:
    with pytest.warns(HistoboostWarning, match="S_3, S_4 not there yet"):
        assert [table.slide for table in labelled_slides(cut_off)] == ["S_1", "S_2"]
    with (
        pytest.warns(HistoboostWarning, match="S_3, S_4 not there yet"),
        pytest.raises(HistoboostError, match="all slides are labelled"),
    ):
        unlabelled_slides(cut_off)


def test_using_named_slides_does_not_warn(cut_off, recwarn):
    assert [t.slide for t in labelled_slides(cut_off, ["S_1", "S_2"])] == ["S_1", "S_2"]
    assert not recwarn.list


def test_repeating_the_run_removes_the_note(cut_off: EmbeddingStore, data: Path) -> None:
    featurize(data, cut_off, backbone="stain-texture", patch=[16])
    assert cut_off.pending_slides() == []
    assert not Path(cut_off.location, ".staging").exists()


def test_gc_removes_the_note(cut_off: EmbeddingStore) -> None:
    cut_off.gc()
    assert cut_off.pending_slides() == []


def test_gc_keeps_the_note_of_a_live_run(cut_off: EmbeddingStore) -> None:
    with cut_off.expecting(["S_3", "S_4"]):
        cut_off.gc()
        assert cut_off.pending_slides() == ["S_3", "S_4"]
    assert cut_off.pending_slides() == []
