"""List the embeddings of a store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.index import Index
from histoboost.cache.layout import Damaged, chunk_count
from histoboost.cache.pending import EMBEDDING_NOTE, staged_notes
from histoboost.cache.published_embedding import open_published


@dataclass
class EmbeddingRow:
    """One embedding over all slides.

    `lacking` are the slides without it or with damaged metadata; `staged` maps slides of unfinished
    runs to ``[chunks staged, chunks in total]``; `spots` is the number of rows, `width` is D (None
    if nothing is published), `bytes` the size on disk; `backbone` and `weights` are the recipe's.
    """

    name: str
    slides: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    staged: dict[str, list[int]] = field(default_factory=dict)
    spots: int = 0
    width: int | None = None
    bytes: int = 0
    backbone: str | None = None
    weights: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every slide has the embedding."""
        return not self.lacking

    def to_json(self) -> dict[str, Any]:
        """All attributes, and ``complete``."""
        return {**asdict(self), "complete": self.complete}


def list_embeddings(
    backend: Backend, slides: Sequence[str], *, keep: bool = False
) -> list[EmbeddingRow]:
    """One row for each embedding of `slides`, all of a store, sorted by name.

    Reads metadata only; with `keep`, the index of a large store is written.
    """
    index = Index(backend)
    rows: dict[str, EmbeddingRow] = {}
    for slide in slides:
        try:
            found = index.embeddings(slide)
        except Damaged:
            continue
        for name, size in found.items():
            row = rows.setdefault(name, EmbeddingRow(name))
            if size is None:
                continue  # lacking; `verify` says why
            rows_in_slide, row.width, n_bytes = size
            row.slides.append(slide)
            row.spots += rows_in_slide
            row.bytes += n_bytes
    if keep:
        index.keep(slides)
    have = {name: frozenset(row.slides) for name, row in rows.items()}
    _add_staged(backend, rows, have)
    for name, row in rows.items():
        row.lacking = [slide for slide in slides if slide not in have.get(name, ())]
        with suppress(Damaged, IndexError):  # just removed, or on no slide
            # All slides share the recipe.
            fields = open_published(backend, row.slides[0], name).recipe.fields
            origin = fields.get("backbone", fields.get("source")), fields.get("weights")
            row.backbone, row.weights = (None if x is None else str(x) for x in origin)
    return [rows[name] for name in sorted(rows)]


def _add_staged(
    backend: Backend, rows: dict[str, EmbeddingRow], have: Mapping[str, Collection[str]]
) -> None:
    for key, owner in staged_notes(backend, EMBEDDING_NOTE):
        try:
            slide, name = str(owner["slide"]), str(owner["embedding"])
            count = chunk_count(int(owner["shape"][0]))
        except (ArithmeticError, ValueError, KeyError, TypeError, IndexError):
            continue  # not a writer's note; `gc` removes it
        row = rows.setdefault(name, EmbeddingRow(name))
        if slide not in have.get(name, ()):
            chunks = backend.children(f"{key.removesuffix(EMBEDDING_NOTE)}chunks")
            done = {file.partition(".")[0] for file in chunks} - {""}
            row.staged[slide] = [len(done), count]
