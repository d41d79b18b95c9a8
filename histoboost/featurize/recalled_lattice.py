"""Reuse the lattice that a store holds of an unchanged image, without detecting tissue again."""

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
    """Like `lay_lattice`, but take the same lattice from the store if the image is unchanged.

    Lattices from a file of regions, or with counts of single cells, are always laid again.
    """
    if slide.cells is None and str(tissue) in ("auto", "all"):
        if not isinstance(store, EmbeddingStore):
            store = EmbeddingStore(store)
        facts = lattice_facts(slide, pitch, tissue, finer)
        names = [name for name in copy_names(slide.name, finer) if name in store]
        tables = [_stored_lattice(store, replace(slide, name=name), facts) for name in names]
        kept = [table for table in tables if table]
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


def _stored_lattice(
    store: EmbeddingStore, slide: Slide, facts: dict[str, object]
) -> SpotTable | None:
    try:
        if "pixels" not in remembered(store, slide):
            return None
        table = store.spots(slide.name)
    except DamagedStore:
        return None
    known = table.lattice or {}
    same = "places" in known and all(known.get(key) == value for key, value in facts.items())
    return table if same else None
