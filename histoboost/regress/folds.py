"""Which slides are held out together, and which of them train meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.regress.features import Layout
from histoboost.regress.fitting import group_names
from histoboost.spots import check_cell_types

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore


@dataclass(frozen=True)
class Fold:
    """Indices of slides that are held out, `group` where they are one, and of those that train."""

    held_out: tuple[int, ...]
    training: tuple[int, ...]
    group: str | None = None


def labelled_slides(store: EmbeddingStore, slides: Sequence[str] | None) -> list[str]:
    """The labelled ones among `slides`, or all labelled slides of the store.

    Raises
    ------
    HistoboostError
        If one that was named is not there or has no labels, cell types differ, or labels are
        half replaced.

    Warns
    -----
    HistoboostWarning
        If slides are still to come.
    """
    there = store.slides()
    for slide in slides or ():
        if slide not in there:
            raise BadInput(
                f"{store.location}: no slide {slide!r}; there are {', '.join(there) or 'none'}"
            )
    if slides is None:
        warn_of_awaited(store)
    chosen = there if slides is None else slides
    if old := [slide for slide in store.pending_labels() if slide in chosen]:
        raise BadInput(
            f"{store.location}: {', '.join(old)} have their old labels, others new ones: a "
            "histoboost cache relabel was cut off; run the same again"
        )
    tables = [store.spots(slide) for slide in chosen]
    for table in tables:
        if slides is not None and not table.labelled:
            raise BadInput(f"slide {table.slide}: has no abundances; choose labelled slides")
    labelled = [table for table in tables if table.labelled]
    if not labelled:
        raise BadInput(f"{store.location}: no labelled slide; featurize slides with labels")
    remedy = "; train on slides that share them, chosen with --slides, or take it out"
    check_cell_types(labelled, store.location, remedy)
    return list(dict.fromkeys(table.slide for table in labelled))


def warn_of_awaited(store: EmbeddingStore) -> None:
    """Say which slides are still to come, before all slides are taken for all there are."""
    awaited = store.pending_slides()
    if awaited:
        warnings.warn(
            f"{store.location}: {', '.join(awaited)} not there yet, the featurize run that was to "
            "store them has not finished; run it again, or forget it with histoboost cache gc",
            HistoboostWarning,
            stacklevel=3,
        )


def make_folds(layout: Layout, group_by: str, held_out: Sequence[str] | None) -> list[Fold]:
    """One fold for every group, in the order of the slides.

    Raises
    ------
    HistoboostError
        If there are fewer than two groups, or `held_out` names a slide that is not there.
    """
    everything = range(len(layout.spots))
    groups = group_names(layout, everything, group_by)
    if len(set(groups)) < 2:
        raise BadInput(
            f"cross-validation: needs two labelled {group_by}s, one to hold out; there is only "
            f"{groups[0]}"
        )
    for slide in held_out or ():
        if slide not in layout.slides:
            raise BadInput(f"held-out slide {slide!r}: is not one of {', '.join(layout.slides)}")
    wanted = {
        group
        for group, slide in zip(groups, layout.slides, strict=True)
        if held_out is None or slide in held_out
    }
    return [
        Fold(
            tuple(i for i in everything if groups[i] == name),
            tuple(i for i in everything if groups[i] != name),
            None if group_by == "slide" else name,
        )
        for name in dict.fromkeys(groups)
        if name in wanted
    ]
