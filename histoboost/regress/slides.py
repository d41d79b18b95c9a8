"""Select slides of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warn
from histoboost.spots import SpotTable, check_cell_types


def open_store(store: EmbeddingStore | str | Path) -> EmbeddingStore:
    """Open a store for reading, unless it is open."""
    return store if isinstance(store, EmbeddingStore) else EmbeddingStore(store, mode="r")


def slide_names(slides: str | Sequence[str] | None) -> list[str] | None:
    """Slide names without duplicates, from one or several; None for all."""
    if slides is None:
        return None
    return list(dict.fromkeys([slides] if isinstance(slides, str) else slides))


def stored_names(store: EmbeddingStore, slides: str | Sequence[str]) -> list[str]:
    """Slide names without duplicates, all in the store."""
    names = slide_names(slides) or []
    for name in names:
        if name not in store:
            known = ", ".join(store.slides()) or "none"
            raise BadInput(f"{store.location}: no slide {name!r}; there are {known}")
    return names


def named_slides(store: EmbeddingStore, slides: str | Sequence[str]) -> list[SpotTable]:
    """Spot tables of the slides with these names."""
    return [store.spots(name) for name in stored_names(store, slides)]


def labelled_slides(
    store: EmbeddingStore, slides: str | Sequence[str] | None = None
) -> list[SpotTable]:
    """Labelled slides with these names, or all; warn if slides are pending or there is one type."""
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
            f"{store.location}: {', '.join(old)} have old labels, other slides new ones, because "
            "histoboost cache relabel was interrupted; run it again"
        )
    if not labelled:
        raise BadInput(f"{store.location}: no labelled slide; featurize slides with labels")
    remedy = "; train on slides that share them, chosen with --slides, or take it out"
    check_cell_types(labelled, store.location, remedy)
    if len(labelled[0].cell_types) == 1:
        warn(
            f"{store.location}: one cell type, {labelled[0].cell_types[0]}: its share and rank are "
            "1 in every spot, so only its map (--units rank-slide, scores per type) and, with "
            "--target raw or log, its abundance can be learned"
        )
    return labelled


def unlabelled_slides(store: EmbeddingStore) -> list[str]:
    """Names of the slides without abundances, without reading a table."""
    unlabelled = _all_slides(store, labelled=False)
    if not unlabelled:
        raise BadInput(f"{store.location}: all slides are labelled; choose slides with --slides")
    return unlabelled


def _all_slides(store: EmbeddingStore, *, labelled: bool) -> list[str]:
    pending = store.pending_slides()
    if pending:
        warn(
            f"{store.location}: {', '.join(pending)} not there yet, because featurize has not "
            "finished; run it again, or discard its part with histoboost cache gc"
        )
    return store.slides(labelled)
