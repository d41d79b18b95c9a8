"""Scores of trained folds, beside the constant baselines, as `evaluate` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from histoboost.finetune.ensemble import labels
from histoboost.finetune.run import Trained, labelled_slides
from histoboost.regress.fitting import warn_if_constant
from histoboost.regress.scores import (
    CrossValidation,
    FoldResult,
    constant_baselines,
    score_predictions,
)
from histoboost.slides.slide import Dataset, Slide


@dataclass(frozen=True)
class EndToEndSetup:
    """What an end-to-end model is, in the words of `regress.setup.Setup`."""

    model: str
    target: str
    group_by: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    features: str = "end-to-end"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def score_folds(
    dataset: Dataset,
    trained: Sequence[Trained],
    *,
    model: str,
    group_by: str = "slide",
    slides: Sequence[str] | None = None,
) -> CrossValidation:
    """Score every fold on what it held out.

    Parameters
    ----------
    dataset : Dataset
        What the folds were trained on.
    trained : sequence of Trained
        Each with at least one held-out slide.
    model : str
        What the result calls the model.
    group_by : str
        What the folds hold out.
    slides : sequence of str, optional
        Labelled slides that were used; all by default.
    """
    used = labelled_slides(dataset, slides)
    settings = trained[0].ensemble.settings
    setup = EndToEndSetup(model, settings.target, group_by, settings.seed, settings.to_json())
    folds = tuple(_score(used, one, settings.seed) for one in trained)
    return CrossValidation(setup, folds, load_seconds=0.0, seeds=(settings.seed,))


def _score(used: Sequence[Slide], one: Trained, seed: int) -> FoldResult:
    true = {slide.name: labels(slide) for slide in used if slide.name in one.predictions}
    learned = [labels(slide) for slide in used if slide.name not in one.predictions]
    for name, prediction in one.predictions.items():
        warn_if_constant(prediction, f"slide {name}")
    return score_predictions(
        one.predictions,
        list(true.values()),
        seed=seed,
        fit_seconds=one.ensemble.fit_seconds(),
        predict_seconds=one.predict_seconds,
        baselines=constant_baselines(learned, list(true.values())),
    )
