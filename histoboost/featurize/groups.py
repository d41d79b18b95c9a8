"""Which slides belong to one patient: a CSV file with the columns slide and group."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from histoboost.errors import HistoboostError
from histoboost.featurize.slide import Dataset


def with_groups(dataset: Dataset, path: str | Path) -> Dataset:
    """The same slides, each with the group that the file gives it.

    Parameters
    ----------
    dataset : Dataset
        Slides to which the groups are given.
    path : str or Path
        CSV with the header ``slide,group``; further columns are ignored.

    Raises
    ------
    HistoboostError
        If the file is missing, lacks a column, lists a slide twice, or leaves one out.
    """
    path = Path(path)
    if not path.is_file():
        raise HistoboostError(f"{path}: no such file; give a CSV with the columns slide,group")
    groups: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        for column in ("slide", "group"):
            if column not in (reader.fieldnames or ()):
                raise HistoboostError(f"{path}: no column {column!r}; its header is slide,group")
        for row in reader:
            slide, group = (row["slide"] or "").strip(), (row["group"] or "").strip()
            if not group:
                raise HistoboostError(f"{path}: slide {slide!r} has no group; fill it in")
            if groups.setdefault(slide, group) != group:
                raise HistoboostError(f"{path}: slide {slide!r} is in two groups; keep one")
    for item in dataset.slides:
        if item.name not in groups:
            raise HistoboostError(f"{path}: slide {item.name!r} is not listed; add a line for it")
    slides = tuple(replace(slide, group=groups[slide.name]) for slide in dataset.slides)
    return Dataset(dataset.path, slides)
