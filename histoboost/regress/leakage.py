"""What would flatter a score: networks tuned on the held-out slide, other slides of its patient."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from histoboost.errors import HistoboostWarning
from histoboost.regress.folds import Fold

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.layout import Layout
    from histoboost.spots import SpotTable


def warn_of_leakage(
    store: EmbeddingStore,
    layout: Layout,
    folds: Sequence[Fold],
    remedy: str = "--group-by auto holds them out together",
) -> None:
    """Warn of all that makes the scores of these folds look better than they are.

    `remedy` says what to do about slides of one group that are held out singly.
    """
    warn_of_shared_groups(layout.spots, folds, remedy)
    held_out = [layout.slides[slide] for fold in folds for slide in fold.held_out]
    warn_of_tuning(store, layout.recipes, held_out)


def warn_of_tuning(
    store: EmbeddingStore, embeddings: Iterable[str], held_out: Iterable[str]
) -> None:
    """Warn where a held-out slide was among those that a backbone of `embeddings` was tuned on.

    Weights that `finetune` wrote name those slides, and the recipes of their embeddings repeat it.
    A slide is the same where its pixels or its spots are, whatever its name.
    """
    slides = list(held_out)
    for name in embeddings:
        known = [slide for slide in slides if _tuned_on(store, slide, name)]
        if known:
            warnings.warn(
                f"embedding {name}: its backbone was tuned on {', '.join(known)}, held out here: "
                "scores there are too good; hold those slides out from finetune as well",
                HistoboostWarning,
                stacklevel=2,
            )


def _tuned_on(store: EmbeddingStore, slide: str, embedding: str) -> bool:
    recipe = store.embeddings(slide).get(embedding)
    fields = {} if recipe is None else recipe.fields
    return any(
        fields.get("slide_pixels") == tuned["pixels"] or fields.get("spots") == tuned["spots"]
        for tuned in fields.get("tuned_on", ())
    )


def warn_of_shared_groups(
    spots: Sequence[SpotTable],
    folds: Sequence[Fold],
    remedy: str = "--group-by auto holds them out together",
) -> None:
    """Say which slides are of one patient or animal but held out singly: one helps the other.

    The line ends in `remedy`.
    """
    members: dict[str, list[str]] = {}
    for table in spots:
        if table.group is not None:
            members.setdefault(table.group, []).append(table.slide)
    if any(fold.group is not None for fold in folds):
        return
    for group, slides in members.items():
        if len(slides) == len(spots):
            remedy = "all are, so no score tells of another patient or animal"
        if len(slides) > 1:
            warnings.warn(
                f"slides {', '.join(slides)} are of one group, {group}, but are held out one by "
                f"one; {remedy}",
                HistoboostWarning,
                stacklevel=3,
            )
