"""Which slides belong to one patient: a CSV file with the columns slide and group."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace
from pathlib import Path

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.slides.slide import Dataset


def with_groups(dataset: Dataset, path: str | Path) -> Dataset:
    """The same slides, each with the group that the file gives it.

    Parameters
    ----------
    dataset : Dataset
        Slides to which the groups are given.
    path : str or Path
        CSV with the header ``slide,group``; further columns are ignored. Slides without labels,
        which are never held out, need no line.

    Raises
    ------
    HistoboostError
        If the file is missing, lacks a column, gives a slide two groups, or leaves one with labels
        out.

    Warns
    -----
    HistoboostWarning
        If it lists slides that are not there.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a CSV with the columns slide,group")
    groups: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        for column in ("slide", "group"):
            if column not in (reader.fieldnames or ()):
                found = ",".join(reader.fieldnames or ()) or "empty"
                raise BadInput(
                    f"{path}: no column {column!r}; its header is {found}, make it slide,group"
                )
        for row in reader:
            slide, group = (row["slide"] or "").strip(), (row["group"] or "").strip()
            if not group:
                raise BadInput(f"{path}: slide {slide!r} has no group; fill it in")
            if groups.setdefault(slide, group) != group:
                raise BadInput(f"{path}: slide {slide!r} is in two groups; keep one")
    for item in dataset.slides:
        if item.labelled and item.name not in groups:
            raise BadInput(f"{path}: slide {item.name!r} is not listed; add a line for it")
    unknown = groups.keys() - {slide.name for slide in dataset.slides}
    if unknown:
        warnings.warn(
            f"{path}: {', '.join(sorted(unknown))} not among the slides of {dataset.path}",
            HistoboostWarning,
            stacklevel=2,
        )
    slides = tuple(
        replace(slide, group=groups.get(slide.name, slide.group)) for slide in dataset.slides
    )
    return Dataset(dataset.path, slides)
