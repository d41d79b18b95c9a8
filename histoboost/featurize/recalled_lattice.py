"""A lattice that a store has of an unchanged image: its tissue need not be looked for again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import DamagedStore
from histoboost.featurize.opened_slide import remembered
from histoboost.slides.lattice import copy_names, lattice_facts, lay_lattice
from histoboost.slides.length import Length
from histoboost.slides.slide import Slide
from histoboost.spots import SpotTable


def lay_or_recall(
    store: EmbeddingStore | str,
    slide: Slide,
    pitch: Length | str | float,
    tissue: str | Path = "auto",
    finer: int = 1,
) -> list[Slide]:
    """As `lay_lattice`, from the store where it has the same lattice and the image is unchanged.

    Regions drawn in a file may have changed, and single cells are counted anew.
    """
    if not isinstance(store, EmbeddingStore):
        store = EmbeddingStore(store)
    if slide.cells is None and str(tissue) in ("auto", "all"):
        facts = lattice_facts(slide, pitch, tissue, finer)
        names = [name for name in copy_names(slide.name, finer) if name in store]
        tables = [_table(store, replace(slide, name=name)) for name in names]
        kept = [table for table in tables if table and _same(table, facts)]
        if kept and sum(map(len, kept)) == (kept[0].lattice or {})["places"]:
            return [
                replace(
                    slide,
                    name=table.slide,
                    xy=table.xy,
                    spot_ids=table.spot_ids,
                    lattice=table.lattice,
                    plain=False,
                )
                for table in kept
            ]
    return lay_lattice(slide, pitch, tissue, finer)


def _table(store: EmbeddingStore, slide: Slide) -> SpotTable | None:
    try:
        return store.spots(slide.name) if "pixels" in remembered(store, slide) else None
    except DamagedStore:
        return None


def _same(table: SpotTable, facts: dict[str, object]) -> bool:
    known = table.lattice or {}
    return "places" in known and all(known.get(key) == value for key, value in facts.items())
