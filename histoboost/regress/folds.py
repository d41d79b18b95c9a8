"""Folds of a cross-validation: which slides are held out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from histoboost.errors import BadInput
from histoboost.regress.heads.base import group_members
from histoboost.regress.slides import slide_names
from histoboost.spots import SpotTable

Key = tuple[str, str]


@dataclass(frozen=True)
class Fold:
    """Indices of held-out slides, with the name of their group if they are one, and of training."""

    held_out: tuple[int, ...]
    training: tuple[int, ...]
    group: str | None = None


def group_keys(spots: Sequence[SpotTable], group_by: str) -> list[Key]:
    """Key of each slide, ``("group", name)`` or ``("slide", name)``; equal keys share a fold.

    `group_by` is ``"slide"``, ``"group"`` (which every slide must have) or ``"auto"``: the group if
    known, else the slide, and the slide if all are of one group.
    """
    by_slide: list[Key] = [("slide", table.slide) for table in spots]
    if group_by == "slide":
        return by_slide
    keys = [
        alone if table.group is None else ("group", table.group)
        for table, alone in zip(spots, by_slide, strict=True)
    ]
    if group_by == "auto":
        return keys if len(set(keys)) > 1 else by_slide
    for kind, name in keys:
        if kind == "slide":
            raise BadInput(
                f"slide {name}: has no group; give groups with histoboost cache relabel "
                "STORE DATA --groups FILE.csv, or use --group-by slide"
            )
    return keys


def make_folds(
    spots: Sequence[SpotTable],
    group_by: str,
    held_out: str | Sequence[str] | None = None,
    purpose: str = "cross-validation",
) -> list[Fold]:
    """One fold per group, see `group_keys`, in slide order; only those of `held_out`, if given."""
    keys, names = group_keys(spots, group_by), [table.slide for table in spots]
    if len(set(keys)) < 2:
        raise BadInput(
            f"{purpose}: needs two labelled {keys[0][0]}s, one to hold out; there is only "
            f"{keys[0][1]}"
        )
    wanted = slide_names(held_out)
    for slide in wanted or ():
        if slide not in names:
            raise BadInput(f"held-out slide {slide!r}: is not one of {', '.join(names)}")
    return [
        Fold(
            tuple(members),
            tuple(i for i in range(len(spots)) if i not in members),
            keys[members[0]][1] if keys[members[0]][0] == "group" else None,
        )
        for members in group_members(keys)
        if wanted is None or any(names[i] in wanted for i in members)
    ]
