"""What a store holds, one row for each embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from histoboost.cache.backend import Backend
from histoboost.cache.layout import Damaged, chunk_count, embedding_key
from histoboost.cache.pending import EMBEDDING_NOTE, staged_notes
from histoboost.cache.published import open_published
from histoboost.cache.recipe import Recipe
from histoboost.cache.table import embedding_names, open_slide


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


def list_embeddings(backend: Backend, slides: Sequence[str]) -> list[EmbeddingRow]:
    """One row for each embedding of `slides`, sorted by name; metadata are read, no chunk is."""
    rows: dict[str, EmbeddingRow] = {}
    for slide in slides:
        try:
            names = embedding_names(backend, open_slide(backend, slide))
        except Damaged:
            continue
        for name in names:
            _add(backend, rows.setdefault(name, EmbeddingRow(name)), slide)
    _add_staged(backend, rows)
    for row in rows.values():
        row.lacking = [slide for slide in slides if slide not in row.slides]
    return [rows[name] for name in sorted(rows)]


def _add(backend: Backend, row: EmbeddingRow, slide: str) -> None:
    try:
        published = open_published(backend, slide, row.name)
    except Damaged:
        return  # it is lacking there; `verify` says why
    row.slides.append(slide)
    row.spots += published.shape[0]
    row.width = published.shape[1]
    row.bytes += sum(backend.walk(embedding_key(slide, row.name)).values())
    row.backbone, row.weights = _origin(published.recipe)


def _origin(recipe: Recipe) -> tuple[str | None, str | None]:
    fields = recipe.fields
    backbone = fields.get("backbone", fields.get("source"))
    weights = fields.get("weights_digest", fields.get("weights"))
    return (
        None if backbone is None else str(backbone),
        None if weights is None else str(weights),
    )


def _add_staged(backend: Backend, rows: dict[str, EmbeddingRow]) -> None:
    for key, owner in staged_notes(backend, EMBEDDING_NOTE):
        try:
            slide, name = str(owner["slide"]), str(owner["embedding"])
            count = chunk_count(int(owner["shape"][0]))
        except (ArithmeticError, ValueError, KeyError, TypeError, IndexError):
            continue  # not of a writer: nothing to show, and `gc` removes it
        row = rows.setdefault(name, EmbeddingRow(name))
        if slide not in row.slides:
            chunks = backend.children(f"{key.removesuffix(EMBEDDING_NOTE)}chunks")
            done = {file.partition(".")[0] for file in chunks} - {""}
            row.staged[slide] = [len(done), count]
