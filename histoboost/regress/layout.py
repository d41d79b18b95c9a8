"""The layout of a feature matrix: a feature-set expression made definite for some slides."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.regress.expression import COORDS, Term, parse_features, resolve
from histoboost.regress.joint import Ranks

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable


@dataclass(frozen=True)
class Columns:
    """Columns `start` to `stop` of the matrix, which belong to one plain term."""

    term: Term
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """The columns of one term of the expression; several where a ``pca`` term reduces them."""

    term: Term
    columns: tuple[Columns, ...]

    @property
    def start(self) -> int:
        """First column."""
        return self.columns[0].start

    @property
    def stop(self) -> int:
        """Column after the last."""
        return self.columns[-1].stop


@dataclass(frozen=True, eq=False)
class Layout:
    """What a feature matrix consists of.

    One block for each term of the expression, its globs resolved; slides in the order of the rows;
    the fields of each embedding's recipe that do not depend on the slide; and for every slide and
    embedding the digest of the whole recipe.
    """

    blocks: tuple[Block, ...]
    spots: tuple[SpotTable, ...]
    recipes: dict[str, dict[str, Any]]
    digests: dict[str, dict[str, str]]

    @property
    def slides(self) -> tuple[str, ...]:
        """Names of the slides."""
        return tuple(table.slide for table in self.spots)

    @property
    def columns(self) -> tuple[Columns, ...]:
        """Those of all blocks."""
        return tuple(columns for block in self.blocks for columns in block.columns)

    @property
    def features(self) -> str:
        """The feature-set expression with its globs resolved."""
        return "+".join(str(block.term) for block in self.blocks)

    @cached_property
    def digest(self) -> str:
        """Digest of all that determines a matrix of this layout, and of the labels."""
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


#: Ranks of the abundances of tables, as long as these are there.
_ranks: WeakKeyDictionary[SpotTable, Ranks] = WeakKeyDictionary()


def ranks_of(table: SpotTable) -> Ranks:
    """Ranks of a labelled slide's abundances; every fold needs them, so they are kept."""
    if table not in _ranks:
        _ranks[table] = Ranks.of(abundance_of(table))
    return _ranks[table]


def describe(store: EmbeddingStore, spots: Sequence[SpotTable], features: str) -> Layout:
    """The layout of the matrix that the expression `features` names; no embedding is read.

    Slides come in the order of the rows. No embedding may be missing, or made in two ways.
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
    """Embeddings that every slide has; it is said which ones that are named only some have."""
    first, *others = present.values()
    common = [name for name in first if all(name in names for names in others)]
    for name in sorted({name for names in present.values() for name in names} - set(common)):
        lacking = [slide for slide, names in present.items() if name not in names]
        named = [term.name for each in terms for term in each.plain]
        if name in named:
            raise BadInput(
                f"embedding {name}: missing on slide {lacking[0]}; featurize that slide too or "
                "choose others with --slides"
            )
        if any(fnmatchcase(name, pattern) for pattern in named):
            warnings.warn(
                f"embedding {name} is left out: missing on slide {', '.join(lacking)}",
                HistoboostWarning,
                stacklevel=4,
            )
    return common


def _one_recipe(name: str, recipes: dict[str, Any]) -> dict[str, Any]:
    slides = list(recipes)
    fields: dict[str, Any] = recipes[slides[0]].fields
    for slide, recipe in recipes.items():
        different = recipes[slides[0]].differences(recipe)
        if different:
            raise BadInput(
                f"embedding {name}: made differently on {slides[0]} and {slide} "
                f"({'; '.join(different)}); featurize them the same way"
            )
    return fields


def _no_wider(terms: Sequence[Term], widths: dict[str, int]) -> tuple[Term, ...]:
    """Say which `pca` terms ask for more components than there are columns, and cut them down.

    The layout's expression says what is used: read again, it has nothing more to say.
    """
    found = []
    for term in terms:
        width = sum(widths[plain.name] for plain in term.plain)
        if term.components > width:
            warnings.warn(
                f"features {str(term)!r}: {width} columns have {width} components, so pca:{width} "
                "is used",
                HistoboostWarning,
                stacklevel=4,
            )
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
