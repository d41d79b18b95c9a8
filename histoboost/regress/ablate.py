"""Ablation: feature sets scored on the same folds and compared with the first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warnings_kept
from histoboost.regress.baselines import SCORES
from histoboost.regress.crossval import run_folds
from histoboost.regress.expression import Term
from histoboost.regress.fold_cache import FoldCache
from histoboost.regress.layout import describe
from histoboost.regress.scores import CrossValidation
from histoboost.regress.setup import Setup
from histoboost.regress.slides import labelled_slides, open_store

if TYPE_CHECKING:
    from distributed import Client

#: Number of folds below which intervals are flagged as uncertain.
FEW_FOLDS = 10
#: Number of terms up to which leave-one-out drops single terms.
ONE_BY_ONE = 12
_PARTS = re.compile(r"(?P<backbone>.+)@(?P<patch>\d+(?:\.\d+)?um|\d+)(?:\.(?P<layer>.+))?")


@dataclass(frozen=True)
class Difference:
    """A paired difference over folds.

    Attributes
    ----------
    mean : float
        Mean over folds.
    interval : tuple of two floats, or None
        95 % interval by the corrected resampled t; None with one fold.
    folds : tuple of float
        Difference of each fold.
    """

    mean: float
    interval: tuple[float, float] | None
    folds: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Ablation:
    """Scores of several feature sets on the same folds.

    Attributes
    ----------
    rows : tuple of CrossValidation
        In the order given; the first is the reference.
    left_out : dict
        Index of a row that leaves out several terms to what they have in common.
    """

    rows: tuple[CrossValidation, ...]
    left_out: dict[int, str] = field(default_factory=dict)

    def difference(self, row: int, score: str) -> Difference:
        """Difference in `score` between a row and the first, by fold (averaged over seeds)."""
        values, reference = (self.rows[each].by_fold(score) for each in (row, 0))
        slides = len(self.rows[0].spots)
        held_out = {fold.held_out for fold in self.rows[0].folds}
        overlap = np.mean([len(each) / (slides - len(each)) for each in held_out])
        return paired_difference(values, reference, float(overlap))

    @property
    def caution(self) -> str:
        """How to read differences over so many folds."""
        folds = len(self.rows[0].by_fold(SCORES[0]))
        if folds < 2:
            return "One fold: a single difference, and no interval."
        few = f"Only {folds} folds: trust a difference only if all folds agree on its sign. "
        return (
            f"{few if folds < FEW_FOLDS else ''}95 % intervals over {folds} folds, widened because "
            "folds share training slides (corrected resampled t); they hold for slides like these, "
            "not for other laboratories."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per feature set and fold; see `CrossValidation.to_frame`."""
        frames = [row.to_frame() for row in self.rows]
        for frame, row in zip(frames, self.rows, strict=True):
            frame.insert(0, "features", row.setup.features)
        return pd.concat(frames, keys=range(1, len(frames) + 1), names=["row", None])

    def to_json(self) -> dict[str, Any]:
        """The fields of `ablate --json`."""
        rows = []
        for index, row in enumerate(self.rows):
            result = row.to_json()
            for score in SCORES:
                difference = self.difference(index, score)
                result[f"delta_{score}"] = difference.mean
                result[f"delta_{score}_interval"] = difference.interval
            for fold, first in zip(result["folds"], self.rows[0].folds, strict=True):
                fold |= {f"delta_{score}": fold[score] - getattr(first, score) for score in SCORES}
            if index in self.left_out:
                result["without"] = self.left_out[index]
            rows.append(result)
        return {"rows": rows, "caution": self.caution}

    def __repr__(self) -> str:
        title = f"<Ablation: {len(self.rows)} feature sets, compared with the first>"
        return "\n  ".join([title, *map(repr, self.rows)])


def paired_difference(
    values: NDArray[np.float64], reference: NDArray[np.float64], overlap: float
) -> Difference:
    """Mean of ``values - reference`` and its 95 % interval by the corrected resampled t.

    The variance of the mean is ``(1 / folds + overlap)`` times that of the differences, because
    models of different folds share training slides; `overlap` is held-out over training slides, and
    0 gives Student's paired t (Nadeau and Bengio, Machine Learning 52, 239-281, 2003).
    """
    differences = np.asarray(values) - np.asarray(reference)
    mean, n = float(differences.mean()), len(differences)
    folds = tuple(map(float, differences))
    if n < 2:
        return Difference(mean, None, folds)
    half = float(student.ppf(0.975, n - 1) * differences.std(ddof=1) * np.sqrt(1 / n + overlap))
    return Difference(mean, (mean - half, mean + half), folds)


def ablate(
    store: EmbeddingStore | str | Path,
    features: str | Sequence[str],
    *,
    leave_one_out: bool = False,
    seeds: int = 1,
    slides: str | Sequence[str] | None = None,
    held_out: str | Sequence[str] | None = None,
    jobs: int | None = None,
    cache: FoldCache | None = None,
    client: Client | None = None,
    **more: Any,
) -> Ablation:
    """Score several feature sets and compare them with the first.

    Parameters
    ----------
    store : EmbeddingStore or path
        Embeddings, coordinates and abundances.
    features : str or sequence of str
        Feature-set expressions.
    leave_one_out : bool
        Also score the first one with each of its terms left out; of more than `ONE_BY_ONE` terms,
        each backbone, patch size, layer and neighbourhood.
    seeds, slides, held_out, jobs, client
        As for `cross_validate`.
    cache : FoldCache, optional
        Stores results, so that an interrupted ablation resumes.
    **more
        Fields of `Setup`, the same for all feature sets.

    Returns
    -------
    Ablation

    Raises
    ------
    HistoboostError
        If there is nothing to compare, or as for `cross_validate`.
    """
    specs = [features] if isinstance(features, str) else features
    rows = [Setup(spec, **more) for spec in specs]
    if not rows or (len(rows) < 2 and not leave_one_out):
        raise BadInput(
            "ablate: nothing to compare; give --features twice or more, or --leave-one-out"
        )
    opened = open_store(store)
    spots = labelled_slides(opened, slides)
    with warnings_kept():  # each row warns again when it is scored
        # Errors in the last feature set are raised before the first one is computed.
        layouts = [describe(opened, spots, row.features) for row in rows]
    left_out = {}
    if leave_one_out:
        terms = [block.term for block in layouts[0].blocks]
        without = _without(terms)
        if len(without) < 2:
            raise BadInput(
                f"leave-one-out: {rows[0].features!r} has one term; give a feature set of two or "
                "more"
            )
        if len(terms) > ONE_BY_ONE:
            left_out = dict(enumerate(without, start=len(specs)))
        for stay in without.values():
            rows.append(replace(rows[0], features="+".join(map(str, stay))))
    common: dict[str, Any] = {"seeds": seeds, "held_out": held_out, "jobs": jobs}
    common |= {"cache": cache, "client": client}
    return Ablation(tuple(run_folds(opened, row, spots, **common) for row in rows), left_out)


def _without(terms: Sequence[Term]) -> dict[str, list[Term]]:
    """Map what can be left out to the remaining terms."""
    if len(terms) <= ONE_BY_ONE:
        kinds = [{"term": str(term)} for term in terms]
    else:
        kinds = [_kinds(term) for term in terms]
    found = {}
    for kind in ("term", "backbone", "patch", "layer", "around"):
        values = list(dict.fromkeys(kinds_of[kind] for kinds_of in kinds if kind in kinds_of))
        for value in values if len(values) > 1 or kind == "term" else ():
            stay = [t for t, own in zip(terms, kinds, strict=True) if own.get(kind) != value]
            label = value if kind in ("term", "around") else f"{kind} {value}"
            if stay:
                found[label] = stay
    return found


def _kinds(term: Term) -> dict[str, str]:
    """Backbone, patch size, layer and neighbourhood of a term, or the term itself."""
    parts = _PARTS.fullmatch(term.name)
    if parts is None:
        return {"term": str(term)}
    layer = parts["layer"] or "last"
    around = f":{term.around}" if term.around else "the spot itself"
    return {"backbone": parts[1], "patch": parts[2], "layer": layer, "around": around}
