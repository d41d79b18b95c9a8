"""Resolve a feature-set expression for some slides into the layout of a feature matrix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warn
from histoboost.regress.expression import COORDS, Term, parse_features, resolve
from histoboost.regress.joint import Ranks
from histoboost.spots import SpotTable


@dataclass(frozen=True)
class Columns:
    """Columns `start` to `stop` of the matrix: one plain term."""

    term: Term
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """Columns of one term of the expression; a ``pca`` term has several plain ones."""

    term: Term
    columns: tuple[Columns, ...]

    @property
    def start(self) -> int:
        return self.columns[0].start

    @property
    def stop(self) -> int:
        return self.columns[-1].stop


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows and columns of a feature matrix.

    `blocks`: one per resolved term; `spots`: slides in row order; `recipes`: slide-independent
    fields of each embedding's recipe; `digests`: of the whole recipe, by slide and embedding.
    """

    blocks: tuple[Block, ...]
    spots: tuple[SpotTable, ...]
    recipes: dict[str, dict[str, Any]]
    digests: dict[str, dict[str, str]]

    @property
    def slides(self) -> tuple[str, ...]:
        return tuple(table.slide for table in self.spots)

    @property
    def columns(self) -> tuple[Columns, ...]:
        return tuple(columns for block in self.blocks for columns in block.columns)

    @property
    def features(self) -> str:
        return "+".join(str(block.term) for block in self.blocks)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that determines the matrix and the labels."""
        spots = {table.slide: table.digest for table in self.spots}
        document = {"features": self.features, "embeddings": self.digests, "spots": spots}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def abundance(self, slide: int) -> NDArray[np.float32]:
        """Abundances (N, T) of one slide."""
        return abundance_of(self.spots[slide])


def abundance_of(table: SpotTable) -> NDArray[np.float32]:
    """Abundances (N, T) of a labelled slide."""
    if table.abundance is None:
        raise BadInput(f"slide {table.slide}: has no abundances; choose labelled slides")
    return table.abundance


_ranks: WeakKeyDictionary[SpotTable, Ranks] = WeakKeyDictionary()


def ranks_of(table: SpotTable) -> Ranks:
    """Ranks of a labelled slide's abundances, cached because every fold needs them."""
    if table not in _ranks:
        _ranks[table] = Ranks.from_abundance(abundance_of(table))
    return _ranks[table]


def describe(store: EmbeddingStore, spots: Sequence[SpotTable], features: str) -> Layout:
    """Resolve the expression `features` for these slides, without reading an embedding.

    Refuse embeddings that are missing or made differently on some slides.
    """
    if not spots:
        raise BadInput("slides: none chosen; name at least one")
    terms = parse_features(features)
    slides = [table.slide for table in spots]
    present = {slide: store.embeddings(slide) for slide in slides}
    common = _common(terms, {slide: list(names) for slide, names in present.items()})
    terms = resolve(terms, common, str(store.location))
    names = dict.fromkeys(t.name for term in terms for t in term.plain if t.name != COORDS)
    recipes = {
        name: _one_recipe(name, {slide: present[slide][name].without_slide() for slide in slides})
        for name in names
    }
    widths = {name: store.width(slides[0], name) for name in names} | {COORDS: 2}
    digests = {slide: {name: present[slide][name].digest for name in names} for slide in slides}
    return Layout(_lay_out(_no_wider(terms, widths), widths), tuple(spots), recipes, digests)


def _common(terms: Sequence[Term], present: dict[str, list[str]]) -> list[str]:
    """Embeddings that every slide has; refuse or warn if a term matches others."""
    first, *others = present.values()
    common = [name for name in first if all(name in names for names in others)]
    named = [term.name for each in terms for term in each.plain]
    for name in sorted({name for names in present.values() for name in names} - set(common)):
        lacking = [slide for slide, names in present.items() if name not in names]
        if name in named:
            raise BadInput(
                f"embedding {name}: missing on slide {lacking[0]}; featurize that slide too or "
                "choose others with --slides"
            )
        if any(fnmatchcase(name, pattern) for pattern in named):
            warn(f"embedding {name} is left out: missing on slide {', '.join(lacking)}")
    return common


def _one_recipe(name: str, recipes: dict[str, Any]) -> dict[str, Any]:
    first, reference = next(iter(recipes.items()))
    for slide, recipe in recipes.items():
        if different := reference.differences(recipe):
            raise BadInput(
                f"embedding {name}: made differently on {first} and {slide} "
                f"({'; '.join(different)}); featurize them the same way"
            )
    fields: dict[str, Any] = reference.fields
    return fields


def _no_wider(terms: Sequence[Term], widths: dict[str, int]) -> tuple[Term, ...]:
    """Limit `pca` terms to as many components as they have columns, with a warning."""
    found = []
    for term in terms:
        width = sum(widths[plain.name] for plain in term.plain)
        if term.components > width:
            warn(f"features {str(term)!r}: only {width} columns, so pca:{width} is used")
            term = replace(term, components=width)
        found.append(term)
    return tuple(dict.fromkeys(found))


def _lay_out(terms: Sequence[Term], widths: dict[str, int]) -> tuple[Block, ...]:
    blocks, start = [], 0
    for term in terms:
        columns = []
        for plain in term.plain:
            columns.append(Columns(plain, start, start + widths[plain.name]))
            start = columns[-1].stop
        blocks.append(Block(term, tuple(columns)))
    return tuple(blocks)
