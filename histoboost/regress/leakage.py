"""Leakage into held-out scores: backbones tuned on held-out slides, and slides of one patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import warn
from histoboost.regress.folds import Fold
from histoboost.regress.layout import Layout
from histoboost.spots import SpotTable


def warn_of_leakage(
    store: EmbeddingStore,
    layout: Layout,
    folds: Sequence[Fold],
    remedy: str = "--group-by auto holds them out together",
) -> None:
    """Warn about leakage that makes the scores of these folds too high.

    `remedy` says how to hold out slides of one group together.
    """
    if all(fold.group is None for fold in folds):
        _warn_of_shared_groups(layout.spots, remedy)
    held_out = [layout.slides[slide] for fold in folds for slide in fold.held_out]
    warn_of_tuning(store, layout.recipes, held_out)


def warn_of_tuning(
    store: EmbeddingStore, embeddings: Iterable[str], held_out: Iterable[str]
) -> None:
    """Warn if the backbone of an embedding was tuned on a held-out slide.

    Slides are recognised by their pixels or spots in the recipe, whatever their names.
    """
    slides = list(held_out)
    for name in embeddings:
        if known := [slide for slide in slides if _tuned_on(store, slide, name)]:
            warn(
                f"embedding {name}: its backbone was tuned on {', '.join(known)}, held out here: "
                "scores there are too high; hold those slides out from finetune as well"
            )


def _tuned_on(store: EmbeddingStore, slide: str, embedding: str) -> bool:
    recipe = store.embeddings(slide).get(embedding)
    fields = {} if recipe is None else recipe.fields
    return any(
        fields.get("slide_pixels") == tuned["pixels"] or fields.get("spots") == tuned["spots"]
        for tuned in fields.get("tuned_on", ())
    )


def _warn_of_shared_groups(spots: Sequence[SpotTable], remedy: str) -> None:
    """Warn about slides of one patient or animal that are held out singly."""
    members: dict[str, list[str]] = {}
    for table in spots:
        if table.group is not None:
            members.setdefault(table.group, []).append(table.slide)
    for group, slides in members.items():
        if len(slides) == len(spots):
            remedy = "all slides are, so scores do not apply to other patients or animals"
        if len(slides) > 1:
            warn(
                f"slides {', '.join(slides)} are of one group, {group}, but are held out one by "
                f"one; {remedy}"
            )
