"""The slides of a store that a command works on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostWarning, warn
from histoboost.spots import SpotTable, check_cell_types


def open_store(store: EmbeddingStore | str | Path) -> EmbeddingStore:
    """A store to read from, given itself or its location."""
    return store if isinstance(store, EmbeddingStore) else EmbeddingStore(store, mode="r")


def slide_names(slides: str | Sequence[str] | None) -> list[str] | None:
    """Names without duplicates, given one or several; None for all."""
    if slides is None:
        return None
    return list(dict.fromkeys([slides] if isinstance(slides, str) else slides))


def stored_names(store: EmbeddingStore, slides: str | Sequence[str]) -> list[str]:
    """Names without duplicates, each of a slide of the store; another is refused."""
    names = slide_names(slides) or []
    for name in names:
        if name not in store:
            known = ", ".join(store.slides()) or "none"
            raise BadInput(f"{store.location}: no slide {name!r}; there are {known}")
    return names


def named_slides(store: EmbeddingStore, slides: str | Sequence[str]) -> list[SpotTable]:
    """The slides with these names, each of which must be there."""
    return [store.spots(name) for name in stored_names(store, slides)]


def labelled_slides(
    store: EmbeddingStore, slides: str | Sequence[str] | None = None
) -> list[SpotTable]:
    """The labelled slides with these names, or all labelled slides of the store.

    Warned of is where slides are still to come, or there is one cell type only.
    """
    if slides is None:
        labelled = [store.spots(name) for name in _all_slides(store, labelled=True)]
    else:
        labelled = named_slides(store, slides)
        for table in labelled:
            if not table.labelled:
                raise BadInput(f"slide {table.slide}: has no abundances; choose labelled slides")
    names = [table.slide for table in labelled]
    if old := [slide for slide in store.pending_labels() if slides is None or slide in names]:
        raise BadInput(
            f"{store.location}: {', '.join(old)} have their old labels, others new ones: a "
            "histoboost cache relabel was cut off; run the same again"
        )
    if not labelled:
        raise BadInput(f"{store.location}: no labelled slide; featurize slides with labels")
    remedy = "; train on slides that share them, chosen with --slides, or take it out"
    check_cell_types(labelled, store.location, remedy)
    if len(labelled[0].cell_types) == 1:
        warn(
            f"{store.location}: one cell type, {labelled[0].cell_types[0]}: its share is 1 and its "
            "rank 1 in every spot, so that only its map (--units rank-slide, scores per type) and, "
            "with --target raw or log, its abundance can be learned"
        )
    return labelled


def unlabelled_slides(store: EmbeddingStore) -> list[str]:
    """Names of the slides without abundances, of which there must be one; no table is read."""
    unlabelled = _all_slides(store, labelled=False)
    if not unlabelled:
        raise BadInput(f"{store.location}: all slides are labelled; choose slides with --slides")
    return unlabelled


def _all_slides(store: EmbeddingStore, *, labelled: bool) -> list[str]:
    pending = store.pending_slides()
    if pending:
        warnings.warn(
            f"{store.location}: {', '.join(pending)} not there yet, the featurize run that was to "
            "store them has not finished; run it again, or forget it with histoboost cache gc",
            HistoboostWarning,
            stacklevel=4,
        )
    return store.slides(labelled)
