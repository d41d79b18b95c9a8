"""Groups of slides, such as patients, from a CSV file with the columns slide and group."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from histoboost.errors import BadInput, warn
from histoboost.names import nfc
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.tables import read_text_table


def with_groups(dataset: Dataset, path: str | Path) -> Dataset:
    """Assign the groups of a CSV file with the columns ``slide,group`` to the slides.

    Other columns are ignored; unknown slides give a warning. Slides without labels are never held
    out and need no row.
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
    return dataset.each(lambda name: partial(_with_group, path, groups.get(name)))


def _with_group(path: Path, group: str | None, slide: Slide) -> Slide:
    if slide.labelled and group is None:
        raise BadInput(f"{path}: slide {slide.name!r} is not listed; add a line for it")
    return slide if group is None else replace(slide, group=group)
