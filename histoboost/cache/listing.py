"""What a store holds, one row for each embedding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.index import Index
from histoboost.cache.layout import Damaged, chunk_count
from histoboost.cache.pending import EMBEDDING_NOTE, staged_notes
from histoboost.cache.published import open_published
from histoboost.cache.recipe import Recipe


@dataclass
class EmbeddingRow:
    """One embedding, over all slides.

    `lacking` are the slides of the store that do not have it, or whose copy has damaged metadata;
    `staged` maps a slide to ``[chunks staged, chunks in all]`` of runs that are not finished.
    `spots` are the rows over all slides, `width` is D, None while nothing is published, and `bytes`
    the size on disk; `backbone` and `weights` are those of the recipe.
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
        """Whether every slide has it."""
        return not self.lacking

    def to_json(self) -> dict[str, Any]:
        """All attributes, and ``complete``."""
        return {**asdict(self), "complete": self.complete}


def list_embeddings(
    backend: Backend, slides: Sequence[str], *, keep: bool = False
) -> list[EmbeddingRow]:
    """One row for each embedding of `slides`, all of a store, sorted by name.

    Metadata are read, no chunk is; with `keep` a large store is given its index.
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
                continue  # it is lacking there; `verify` says why
            row.slides.append(slide)
            row.spots += size[0]
            row.width = size[1]
            row.bytes += size[2]
    if keep:
        index.keep(slides)
    have = {name: frozenset(row.slides) for name, row in rows.items()}
    _add_staged(backend, rows, have)
    for name, row in rows.items():
        row.lacking = [slide for slide in slides if slide not in have.get(name, ())]
        with suppress(Damaged, IndexError):  # removed meanwhile, or on no slide
            # A name means one recipe, on all slides.
            row.backbone, row.weights = _origin(open_published(backend, row.slides[0], name).recipe)
    return [rows[name] for name in sorted(rows)]


def _origin(recipe: Recipe) -> tuple[str | None, str | None]:
    fields = recipe.fields
    backbone = fields.get("backbone", fields.get("source"))
    weights = fields.get("weights_digest", fields.get("weights"))
    return (
        None if backbone is None else str(backbone),
        None if weights is None else str(weights),
    )


def _add_staged(
    backend: Backend, rows: dict[str, EmbeddingRow], have: Mapping[str, Collection[str]]
) -> None:
    for key, owner in staged_notes(backend, EMBEDDING_NOTE):
        try:
            slide, name = str(owner["slide"]), str(owner["embedding"])
            count = chunk_count(int(owner["shape"][0]))
        except (ArithmeticError, ValueError, KeyError, TypeError, IndexError):
            continue  # not of a writer: nothing to show, and `gc` removes it
        row = rows.setdefault(name, EmbeddingRow(name))
        if slide not in have.get(name, ()):
            chunks = backend.children(f"{key.removesuffix(EMBEDDING_NOTE)}chunks")
            done = {file.partition(".")[0] for file in chunks} - {""}
            row.staged[slide] = [len(done), count]
