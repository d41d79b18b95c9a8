"""Groups: a CSV assigns slides to patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.slides.groups import with_groups
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset, Slide


@pytest.fixture
def dataset() -> Dataset:
    image = ArrayImage(np.zeros((4, 4, 3), np.uint8))
    labels = {"abundance": np.ones((1, 2), np.float32), "cell_types": ("a", "b")}
    slides = tuple(Slide(name, image, np.ones((1, 2)), ("0",), **labels) for name in ("S_1", "S_2"))
    return Dataset(Path("data.h5"), slides)


@pytest.mark.parametrize(
    "text",
    [
        "slide,group\nS_1,A\nS_2,B\n",
        "\ufeffgroup, slide,note\nB,S_2,x\nA,S_1,\n",
    ],
)
def test_groups_are_taken_by_name_in_any_order(tmp_path: Path, dataset: Dataset, text: str):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    grouped = with_groups(dataset, tmp_path / "groups.csv")
    assert [slide.group for slide in grouped.slides] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,group\nS_1,A\n", "no column 'slide'; its header is name,group, make it slide,group"),
        ("", "is empty; give a table with a header"),
        ("slide,patient\nS_1,A\n", "no column 'group'"),
        ("slide,group\nS_1,A\n", "slide 'S_2' is not listed"),
        ("slide,group\nS_1,A\nS_2\n", "slide 'S_2' has no group"),
        ("slide,group\nS_1,A\nS_2,B\nS_1,C\n", "slide 'S_1' is in two groups"),
    ],
)
def test_an_ambiguous_file_is_refused(tmp_path, dataset, text: str, message: str):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(HistoboostError, match=f"groups.csv: {message}"):
        with_groups(dataset, tmp_path / "groups.csv")


def test_a_slide_without_labels_needs_no_line(tmp_path: Path, dataset: Dataset):
    unlabelled = replace(dataset.slides[0], name="S_3", abundance=None, cell_types=())
    (tmp_path / "groups.csv").write_text("slide,group\nS_1,A\nS_2,B\n")
    grouped = with_groups(
        Dataset(dataset.path, (*dataset.slides, unlabelled)), tmp_path / "groups.csv"
    )
    assert [slide.group for slide in grouped.slides] == ["A", "B", None]


def test_a_line_for_an_unknown_slide_gives_a_warning(tmp_path: Path, dataset: Dataset):
    (tmp_path / "groups.csv").write_text("slide,group\nS_1,A\nS_2,B\nS_77,C\n")
    with pytest.warns(HistoboostWarning, match="S_77 not among the slides of data.h5"):
        with_groups(dataset, tmp_path / "groups.csv")


def test_a_missing_file_says_so(tmp_path: Path, dataset: Dataset):
    with pytest.raises(HistoboostError, match="absent.csv: no such file"):
        with_groups(dataset, tmp_path / "absent.csv")
