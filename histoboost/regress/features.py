"""Feature-set expression to matrix: float16 in, one float32 matrix out, no copy in between."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.regress.expression import (
    COORDS,
    DEFAULT_FEATURES,
    Term,
    parse_features,
    resolve,
)
from histoboost.regress.neighbors import ring_mean

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.spots import SpotTable

#: Added to a variance before dividing, as in batch normalisation: a unit that hardly ever fires
#: must not be blown up to unit variance.
EPSILON = 1e-6
#: Standard deviations at which a standardised feature is cut off: a few spots of folded tissue or
#: ink must not pull a model.
CLIP = 3.0


@dataclass(frozen=True)
class Columns:
    """Columns `start` to `stop` of the matrix, which belong to one plain term.

    `block` numbers the term of the expression they came in with, so that a ``pca`` term finds
    all of its columns; `components` is that term's, 0 where it is not ``pca``.
    """

    term: Term
    start: int
    stop: int
    block: int
    components: int


@dataclass(frozen=True, eq=False)
class Layout:
    """What a feature matrix consists of.

    Attributes
    ----------
    columns : tuple of Columns
        What the columns are.
    spots : tuple of SpotTable
        One per slide, in the order of the rows.
    recipes : dict
        Embedding name to the fields of its recipe that do not depend on the slide.
    digests : dict
        Slide to embedding name to the digest of the whole recipe.
    """

    columns: tuple[Columns, ...]
    spots: tuple[SpotTable, ...]
    recipes: dict[str, dict[str, Any]]
    digests: dict[str, dict[str, str]]

    @property
    def slides(self) -> tuple[str, ...]:
        """Names of the slides."""
        return tuple(table.slide for table in self.spots)

    @property
    def features(self) -> str:
        """The feature-set expression with its globs resolved."""
        blocks: dict[int, list[Columns]] = {}
        for column in self.columns:
            blocks.setdefault(column.block, []).append(column)
        parts = []
        for columns in blocks.values():
            inner = "+".join(str(column.term) for column in columns)
            components = columns[0].components
            parts.append(f"pca:{components}({inner})" if components else inner)
        return "+".join(parts)

    @cached_property
    def digest(self) -> str:
        """Digest of all that determines a matrix of this layout, and of the labels."""
        spots = {table.slide: table.digest for table in self.spots}
        document = {"features": self.features, "embeddings": self.digests, "spots": spots}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def abundance(self, slide: int) -> NDArray[np.float32]:
        """Abundances (N, T) of one slide."""
        table = self.spots[slide]
        if table.abundance is None:
            raise BadInput(f"slide {table.slide}: has no abundances; choose labelled slides")
        return table.abundance


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The features of some slides, one row per spot.

    Attributes
    ----------
    values : ndarray of shape (N, F), float32
        Slides one after the other, in the order of the layout's spots; before any PCA.
    layout : Layout
        What rows and columns are.
    standardize : str
        ``"slide"`` or ``"none"``.
    """

    values: NDArray[np.float32]
    layout: Layout
    standardize: str

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of every slide, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum([len(table.xy) for table in self.layout.spots])])

    def block(self, slide: int) -> NDArray[np.float32]:
        """Rows of one slide, a view."""
        return self.values[self.starts[slide] : self.starts[slide + 1]]

    def abundance(self, slide: int) -> NDArray[np.float32]:
        """Abundances (N, T) of one slide."""
        return self.layout.abundance(slide)


def assemble(
    store: EmbeddingStore,
    slides: Sequence[str],
    spec: str | Sequence[Term] = DEFAULT_FEATURES,
    standardize: str = "slide",
) -> FeatureMatrix:
    """Read the features that `spec` names into one matrix.

    Parameters
    ----------
    store : EmbeddingStore
        Embeddings and spot tables.
    slides : sequence of str
        Names of the slides, in the order of the rows.
    spec : str or sequence of Term
        Feature-set expression.
    standardize : str
        ``"slide"`` brings every embedding column to mean 0 and variance 1 within each slide
        and cuts it off at 3 standard deviations,
        which takes away differences of stain and scanner and uses no labels; ``"none"``.

    Returns
    -------
    FeatureMatrix

    Raises
    ------
    HistoboostError
        If a slide or embedding is missing, an embedding was made in different ways on two of
        the slides, or holds numbers that are not finite.
    """
    layout = describe(store, slides, spec)
    if standardize not in ("slide", "none"):
        raise BadInput(f"standardize {standardize!r}: unknown; there are slide and none")
    rows = np.concatenate([[0], np.cumsum([len(table.xy) for table in layout.spots])])
    values = np.empty((int(rows[-1]), layout.columns[-1].stop), dtype=np.float32)
    for table, start, stop in zip(layout.spots, rows[:-1], rows[1:], strict=True):
        _fill(values[start:stop], store, table, layout.columns, standardize)
    return FeatureMatrix(values, layout, standardize)


def describe(
    store: EmbeddingStore, slides: Sequence[str], spec: str | Sequence[Term] = DEFAULT_FEATURES
) -> Layout:
    """What `assemble` would read, without reading any embedding.

    Raises
    ------
    HistoboostError
        As `assemble`, apart from faults of the numbers.
    """
    if not slides:
        raise BadInput("slides: none chosen; name at least one")
    terms = parse_features(spec) if isinstance(spec, str) else tuple(spec)
    _check_slides(store, slides)
    present = [store.embeddings(slide) for slide in slides]
    common = [name for name in present[0] if all(name in others for others in present)]
    _explain_missing(terms, slides, [list(names) for names in present])
    _warn_of_partial(terms, slides, [list(names) for names in present], common)
    terms = resolve(terms, common, str(store.location))
    names = dict.fromkeys(t.name for t in _plain(terms) if t.name != COORDS)
    recipes = {name: _one_recipe(name, slides, present) for name in names}
    tables = tuple(store.spots(slide) for slide in slides)
    widths = {name: store.width(slides[0], name) for name in names}
    columns = _lay_out(_no_wider(terms, widths), widths)
    digests = {
        slide: {name: there[name].digest for name in names}
        for slide, there in zip(slides, present, strict=True)
    }
    return Layout(columns, tables, recipes, digests)


def _check_slides(store: EmbeddingStore, slides: Sequence[str]) -> None:
    there = store.slides()
    missing = [slide for slide in slides if slide not in there]
    if missing:
        known = ", ".join(there) or "none"
        raise BadInput(f"{store.location}: no slide {missing[0]!r}; there are {known}")


def _explain_missing(
    terms: Sequence[Term], slides: Sequence[str], present: Sequence[Sequence[str]]
) -> None:
    """A name that some slides have and others lack deserves a better word than "no match"."""
    for term in _plain(terms):
        lacking = [s for s, names in zip(slides, present, strict=True) if term.name not in names]
        if lacking and len(lacking) < len(slides) and term.name != COORDS:
            raise BadInput(
                f"embedding {term.name}: missing on slide {lacking[0]}; featurize that slide too "
                "or choose others with --slides"
            )


def _warn_of_partial(
    terms: Sequence[Term],
    slides: Sequence[str],
    present: Sequence[Sequence[str]],
    common: Sequence[str],
) -> None:
    """Say which embeddings a glob would take in if every slide had them."""
    partial = {name for names in present for name in names} - set(common)
    for name in sorted(partial):
        if any(fnmatchcase(name, term.name) for term in _plain(terms)):
            lacking = [s for s, names in zip(slides, present, strict=True) if name not in names]
            warnings.warn(
                f"embedding {name} is left out: missing on slide {', '.join(lacking)}",
                HistoboostWarning,
                stacklevel=3,
            )


def _plain(terms: Sequence[Term]) -> Iterator[Term]:
    for term in terms:
        yield from (term.inner if term.components else (term,))


def _one_recipe(name: str, slides: Sequence[str], present: Sequence[Any]) -> dict[str, Any]:
    recipes = [names[name].without_slide() for names in present]
    for slide, recipe in zip(slides, recipes, strict=True):
        different = recipes[0].differences(recipe)
        if different:
            raise BadInput(
                f"embedding {name}: made differently on {slides[0]} and {slide} "
                f"({'; '.join(different)}); featurize them alike"
            )
    fields: dict[str, Any] = recipes[0].fields
    return fields


def _no_wider(terms: Sequence[Term], widths: dict[str, int]) -> tuple[Term, ...]:
    """Say which `pca` terms ask for more components than there are columns, and cut them down.

    What is resolved says what is used, so that it is said once: where the layout's expression is
    read again there is nothing more to say.
    """
    found = []
    for term in terms:
        width = sum(_width(plain, widths) for plain in _plain([term]))
        if term.components > width:
            warnings.warn(
                f"features {str(term)!r}: {width} columns have {width} components, so pca:{width} "
                "is used",
                HistoboostWarning,
                stacklevel=3,
            )
            term = replace(term, components=width)
        found.append(term)
    return tuple(dict.fromkeys(found))


def _width(term: Term, widths: dict[str, int]) -> int:
    return 2 if term.name == COORDS else widths[term.name]


def _lay_out(terms: Sequence[Term], widths: dict[str, int]) -> tuple[Columns, ...]:
    columns: list[Columns] = []
    for block, term in enumerate(terms):
        for plain in _plain([term]):
            start = columns[-1].stop if columns else 0
            stop = start + _width(plain, widths)
            columns.append(Columns(plain, start, stop, block, term.components))
    return tuple(columns)


def _fill(
    rows: NDArray[np.float32],
    store: EmbeddingStore,
    table: SpotTable,
    columns: Sequence[Columns],
    standardize: str,
) -> None:
    """Write the features of one slide; each embedding is read once, each graph built once."""
    means = {rings: ring_mean(table.xy, rings) for rings in {c.term.rings for c in columns} - {0}}
    for name in dict.fromkeys(c.term.name for c in columns):
        own = [c for c in columns if c.term.name == name]
        if name == COORDS:
            for c in own:
                rows[:, c.start : c.stop] = unit_coords(table.xy)
            continue
        embedding = store.read(table.slide, name).astype(np.float32)
        if embedding.shape != (len(rows), own[0].stop - own[0].start):
            raise BadInput(
                f"embedding {name}: shape {embedding.shape} on slide {table.slide}, expected "
                f"{(len(rows), own[0].stop - own[0].start)}; run histoboost cache verify"
            )
        if not np.isfinite(embedding).all():
            raise BadInput(
                f"embedding {name}: not finite on slide {table.slide}; remove it with histoboost "
                "cache remove and featurize again"
            )
        for c in own:
            part = rows[:, c.start : c.stop]
            part[...] = means[c.term.rings] @ embedding if c.term.rings else embedding
            if standardize == "slide":
                standardize_columns(part)


def standardize_columns(part: NDArray[np.float32]) -> None:
    """Bring every column to mean 0 and variance ``v / (v + EPSILON)``, cut at `CLIP`, in place."""
    part -= part.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = np.einsum("ij,ij->j", part, part, dtype=np.float32) / max(len(part), 1)
    part /= np.sqrt(variance + EPSILON)
    np.clip(part, -CLIP, CLIP, out=part)


def unit_coords(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """x and y scaled to 0..1 within the slide; 0.5 where a slide has no extent."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    half = np.full_like(xy, 0.5)
    return np.asarray(np.divide(xy - low, extent, out=half, where=extent > 0))
