"""Which slides belong to one patient: a CSV file with the columns slide and group."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from histoboost.errors import BadInput, warn
from histoboost.names import nfc
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.tables import read_text_table


def with_groups(dataset: Dataset, path: str | Path) -> Dataset:
    """The same slides, each with the group that a CSV with the header ``slide,group`` gives it.

    Further columns are ignored, and slides that are not there warned of. Slides without labels,
    which are never held out, need no line.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a CSV with the columns slide,group")
    groups: dict[str, str] = {}
    rows = read_text_table(path)
    for column in ("slide", "group"):
        if column not in rows:
            raise BadInput(
                f"{path}: no column {column!r}; its header is "
                f"{','.join(map(str, rows))}, make it slide,group"
            )
    for slide, group in rows[["slide", "group"]].to_numpy().tolist():
        if not group:
            raise BadInput(f"{path}: slide {slide!r} has no group; fill it in")
        if groups.setdefault(nfc(slide), group) != group:
            raise BadInput(f"{path}: slide {slide!r} is in two groups; keep one")
    unknown = groups.keys() - set(dataset.names)
    if unknown:
        warn(f"{path}: {', '.join(sorted(unknown))} not among the slides of {dataset.path}")
    return dataset.each(lambda name: partial(_grouped, path, groups.get(name)))


def _grouped(path: Path, group: str | None, slide: Slide) -> Slide:
    if slide.labelled and group is None:
        raise BadInput(f"{path}: slide {slide.name!r} is not listed; add a line for it")
    return slide if group is None else replace(slide, group=group)
