"""`histoboost report`: an interactive page of what a model predicts and where it fails."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, pass_on, warn, warnings_kept
from histoboost.finetune.folder import is_ensemble
from histoboost.io import check_output
from histoboost.outputs.encode import floats, numbers
from histoboost.regress.heads import find_model
from histoboost.regress.joint import to_shares
from histoboost.regress.metrics import spearman
from histoboost.regress.model import CompositionRegressor
from histoboost.regress.novelty import fit_novelty
from histoboost.regress.scores import CrossValidation
from histoboost.regress.units import to_units
from histoboost.report.evaluation import Evaluation, evaluate
from histoboost.report.page import SUFFIXES, write_page
from histoboost.report.provenance import provenance, recipes
from histoboost.report.slide_data import slide_payload

if TYPE_CHECKING:
    from histoboost.regress.layout import Layout
    from histoboost.regress.setup import Setup

#: Maximum number of cell types with maps and scores, so that browsers can open the page.
MAPPED = 100

#: Novelty of the spots of a slide (N,), and whether the slide is unlike the training slides.
Novelty = tuple[NDArray[np.float64], bool]
#: Predictions for a slide (N, T): in units "none", and as abundances.
Predicted = tuple[NDArray[np.float64], NDArray[np.float64]]


def report(
    store: str | Path, model: str | Path, output: str | Path, *, jobs: int | None = None
) -> Path:
    """Cross-validate the settings of a model and write an interactive page.

    Each training slide (or group of slides) is held out in turn and predicted by a model trained on
    the others with the same settings. All other slides in the store are predicted by the model
    itself.

    Parameters
    ----------
    store : str or Path
        Embedding store.
    model : str or Path
        Folder of a trained model.
    output : str or Path
        HTML file to write.
    jobs : int, optional
        Maximum number of cores to use.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    HistoboostError
        If the store lacks slides or embeddings of the model, the model was trained on only one
        slide or group, or `output` cannot be written.
    """
    check_output(Path(output), SUFFIXES)
    if is_ensemble(model):
        raise BadInput(
            f"{model}: is a fine-tuned model, which report does not support; use predict, or "
            "finetune --cross-validate for its scores"
        )
    regressor = CompositionRegressor.load(model)
    if len(regressor.training_slides_) < 2:
        raise BadInput(
            f"{model}: was trained on one slide, {regressor.training_slides_[0]}; a report needs "
            "at least two training slides"
        )
    opened = EmbeddingStore(store, mode="r")
    with warnings_kept() as warned:
        # First, because it fails early if the store does not fit the model.
        predicted, novelty = _predict_other_slides(opened, regressor)
        evaluation = evaluate(opened, regressor.training_slides_, regressor.setup_, jobs)
        if regressor.guard_.novelty is not None:
            novelty |= _held_out_novelty(opened, evaluation, regressor.setup_.seed)
        shown, types = _most_abundant(evaluation.matrix.layout), regressor.cell_types_
        if len(shown) < len(types):
            warn(
                f"{len(types):,} cell types: maps, ranks and scores by type are shown only for the "
                f"{len(shown)} most abundant; all other scores include all types"
            )
    pass_on(warned)
    command = shlex.join(["histoboost", "report", str(store), str(model), "-o", str(output)])
    page = {
        "title": f"{Path(model).name} on {Path(store).name}",
        "source": f"{regressor.setup_.model} on {regressor.setup_.features}",
        "warnings": warned,
        "types": [types[i] for i in shown],
        "slides": _slides(opened, evaluation, predicted, novelty, shown),
        **_scores(evaluation, regressor.setup_, shown),
        "importance": _importance(evaluation, regressor.setup_.model),
        "curves": {
            "rounds": _curve(evaluation, evaluation.rounds),
            "sizes": _curve(evaluation, evaluation.sizes),
        },
        "provenance": provenance(opened.location, Path(model), regressor, command),
        "recipes": recipes(evaluation.matrix.layout),
    }
    return write_page(output, "report", page)


def _predict_other_slides(
    store: EmbeddingStore, model: CompositionRegressor
) -> tuple[dict[str, Predicted], dict[str, Novelty]]:
    """Predict the slides that have the embeddings but were not used for training."""
    needed = set(model.recipes_)
    names = [
        name
        for name in store.slides()
        if name not in model.training_slides_ and needed <= set(store.embeddings(name))
    ]
    if not names:
        return {}, {}
    raw, amounts = (model.predict(store, names, units=units) for units in ("none", "abundance"))
    pairs = zip(raw, amounts, strict=True)
    novelty = {each.slide: (each.novelty, each.unlike) for each in raw if each.novelty is not None}
    return {each.slide: (each.values, amount.values) for each, amount in pairs}, novelty


def _held_out_novelty(
    store: EmbeddingStore, evaluation: Evaluation, seed: int
) -> dict[str, Novelty]:
    """Novelty of each training slide relative to the training slides of its fold."""
    layout = evaluation.matrix.layout
    found = {}
    for result in evaluation.results:
        training = [table for table in layout.spots if table.slide not in result.held_out]
        novelty = fit_novelty(store, training, tuple(layout.recipes), seed)
        for slide in result.held_out:
            if novelty is not None:
                found[slide] = novelty.judge(store, layout.spots[layout.slides.index(slide)])
    return found


def _slides(
    store: EmbeddingStore,
    evaluation: Evaluation,
    other_slides: dict[str, Predicted],
    novelty: dict[str, Novelty],
    shown: NDArray[np.int64],
) -> list[dict[str, Any]]:
    found = dict(other_slides)
    held_out: dict[str, tuple[str, ...]] = {}
    for result, target in zip(evaluation.results, evaluation.targets, strict=True):
        for slide, values in result.predictions.items():
            found[slide] = to_units(values, "none", target), to_units(values, "abundance", target)
            held_out[slide] = result.held_out
    slides = []
    for name in store.slides():
        if name not in found:
            continue
        predicted, amount = found[name]
        spots = store.spots(name)
        truth = spots.abundance
        score = None if truth is None else floats(spearman(predicted, truth, axis=1))
        slides.append(
            {
                **slide_payload(spots),
                "truth": None if truth is None else floats(truth.T[shown]),
                "predicted": floats(predicted.T[shown]),
                "score": score,
                "amount": floats(amount.T[shown]),
                "held_out": held_out.get(name),
                "novelty": floats(novelty[name][0]) if name in novelty else None,
                "unlike": name in novelty and novelty[name][1],
            }
        )
    return slides


def _most_abundant(layout: Layout) -> NDArray[np.int64]:
    """Choose the `MAPPED` cell types with the largest mean share."""
    abundances = [layout.abundance(slide).astype(np.float64) for slide in range(len(layout.spots))]
    mean = np.mean([to_shares(abundance).mean(axis=0) for abundance in abundances], axis=0)
    return np.sort(np.argsort(-mean, kind="stable")[:MAPPED])


def _scores(evaluation: Evaluation, setup: Setup, shown: NDArray[np.int64]) -> dict[str, Any]:
    layout = evaluation.matrix.layout
    scores = CrossValidation(setup, tuple(evaluation.results), 0.0, (setup.seed,))
    found = scores.to_json()
    by_type = {
        slide: spearman(
            to_units(values, "none", target), layout.abundance(layout.slides.index(slide)), axis=0
        )
        for result, target in zip(evaluation.results, evaluation.targets, strict=True)
        for slide, values in result.predictions.items()
    }
    for fold in found["folds"]:
        del fold["types"]
    return {
        "scores": {name: found[name] for name in ("folds", "mean", "baselines")},
        "scored_slides": list(by_type),
        "type_scores": [
            {"mean": float(np.mean(each)), "folds": numbers(each, 4)}
            for each in np.stack(list(by_type.values()), axis=1)[shown]
        ],
    }


def _importance(evaluation: Evaluation, model: str) -> dict[str, Any]:
    head = find_model(model)
    return {
        "gain_name": f"Share of {head.importance or 'the fit'}",
        "gain_means": head.meaning or None,
        "groupings": {
            grouping: [{"name": name, **values} for name, values in groups.items()]
            for grouping, groups in evaluation.importances.items()
        },
    }


def _curve(
    evaluation: Evaluation, curve: tuple[list[int], list[list[float]]] | None
) -> dict[str, Any] | None:
    if curve is None:
        return None
    counts, scores = curve
    folds = [result.name for result in evaluation.results]
    return {
        "x": counts,
        "folds": [
            {"name": name, "y": numbers(row, 4)} for name, row in zip(folds, scores, strict=True)
        ],
        "mean": numbers(np.mean(scores, axis=0), 4),
    }
