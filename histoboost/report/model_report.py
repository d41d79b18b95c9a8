"""`histoboost report`: what a trained model can do, and where it fails."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, pass_on, warn, warnings_kept
from histoboost.io import check_output
from histoboost.outputs.encode import floats, numbers
from histoboost.report.page import SUFFIXES, VERSION, write_page
from histoboost.report.slides import slide_payload

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.layout import Layout
    from histoboost.regress.model import CompositionRegressor
    from histoboost.regress.setup import Setup
    from histoboost.report.evaluation import Evaluation

#: Cell types that the page has maps and scores of, at most: it must stay one that a browser opens.
MAPPED = 100

#: Novelty of a slide's spots (N,), and whether the slide is unlike those of training.
Judged = tuple[NDArray[np.float64], bool]


def report(
    store: str | Path, model: str | Path, output: str | Path, *, jobs: int | None = None
) -> Path:
    """Cross-validate a model's settings and write what comes out as a page.

    The slides that the model was trained on are held out in turn (with their group, if the model
    groups slides) and predicted by models that were trained on the others with the same settings.
    All other slides of the store are predicted by the model itself.

    Parameters
    ----------
    store : str or Path
        The embedding store.
    model : str or Path
        Folder of a trained model.
    output : str or Path
        The HTML file.
    jobs : int, optional
        Cores to use at most.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    HistoboostError
        If the store lacks what the model was trained on, the model was trained on one slide (or
        group) only, or `output` cannot be written.
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.model import CompositionRegressor
    from histoboost.report.evaluation import evaluate
    from histoboost.report.provenance import provenance, recipes

    check_output(Path(output), SUFFIXES)
    regressor = CompositionRegressor.load(model)
    if len(regressor.training_slides_) < 2:
        raise BadInput(
            f"{model}: was trained on one slide, {regressor.training_slides_[0]}; a report needs "
            "at least two training slides"
        )
    opened = EmbeddingStore(store, mode="r")
    with warnings_kept() as heard:
        # Says early if the store does not fit the model.
        rest, novelty = _predict_rest(opened, regressor)
        evaluation = evaluate(opened, regressor.training_slides_, regressor.setup_, jobs)
        if regressor.guard_.novelty is not None:
            novelty |= _held_out_novelty(opened, evaluation, regressor.setup_.seed)
        shown, types = _shown(evaluation.matrix.layout), regressor.cell_types_
        if len(shown) < len(types):
            warn(
                f"{len(types):,} cell types: maps, ranks and scores by type are of the "
                f"{len(shown)} most abundant, all other scores of all"
            )
    pass_on(heard)
    command = shlex.join(["histoboost", "report", str(store), str(model), "-o", str(output)])
    page = {
        "title": f"{Path(model).name} on {Path(store).name}",
        "source": f"{regressor.setup_.model} on {regressor.setup_.features}",
        "made": f"histoboost {VERSION}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "warnings": heard,
        "types": [types[at] for at in shown],
        "slides": _slides(opened, evaluation, rest, novelty, shown),
        **_scores(evaluation, regressor.setup_, shown),
        "importance": _importance(evaluation, regressor.setup_.model),
        "curves": {
            "rounds": _curve(evaluation, evaluation.rounds),
            "sizes": _curve(evaluation, evaluation.sizes),
        },
        "provenance": provenance(opened.location, Path(model), regressor, command),
        "recipes": recipes(evaluation.matrix.layout),
    }
    return write_page(output, title=str(page["title"]), kind="report", data=page)


def _predict_rest(
    store: EmbeddingStore, model: CompositionRegressor
) -> tuple[dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], dict[str, Judged]]:
    """Predictions and abundances of slides not used for training that have the embeddings.

    Their novelty beside them, where the model can tell.
    """
    needed = set(model.recipes_)
    names = [
        name
        for name in store.slides()
        if name not in model.training_slides_ and needed <= set(store.embeddings(name))
    ]
    if not names:
        return {}, {}
    found, amounts = (model.predict(store, names, units=units) for units in ("none", "abundance"))
    pairs = zip(found, amounts, strict=True)
    judged = {one.slide: (one.novelty, one.unlike) for one in found if one.novelty is not None}
    return {one.slide: (one.values, amount.values) for one, amount in pairs}, judged


def _held_out_novelty(
    store: EmbeddingStore, evaluation: Evaluation, seed: int
) -> dict[str, Judged]:
    """Novelty of every training slide, told by the slides that its fold trains on."""
    from histoboost.regress.novelty import fit_novelty

    layout = evaluation.matrix.layout
    judged = {}
    for result in evaluation.results:
        training = [table for table in layout.spots if table.slide not in result.held_out]
        novelty = fit_novelty(store, training, tuple(layout.recipes), seed)
        for slide in result.held_out:
            if novelty is not None:
                judged[slide] = novelty.judge(store, layout.spots[layout.slides.index(slide)])
    return judged


def _slides(
    store: EmbeddingStore,
    evaluation: Evaluation,
    rest: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    novelty: dict[str, Judged],
    shown: NDArray[np.int64],
) -> list[dict[str, Any]]:
    from histoboost.regress.metrics import spearman
    from histoboost.regress.units import to_units

    found = dict(rest)
    left_out: dict[str, tuple[str, ...]] = {}
    for result, target in zip(evaluation.results, evaluation.targets, strict=True):
        for slide, values in result.predictions.items():
            found[slide] = to_units(values, "none", target), to_units(values, "abundance", target)
            left_out[slide] = result.held_out
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
                "held_out": left_out.get(name),
                "novelty": floats(novelty[name][0]) if name in novelty else None,
                "unlike": name in novelty and novelty[name][1],
            }
        )
    return slides


def _shown(layout: Layout) -> NDArray[np.int64]:
    """The cell types that the page shows one by one, `MAPPED` at most: of the largest shares."""
    from histoboost.regress.joint import to_shares

    known = [layout.abundance(slide).astype(np.float64) for slide in range(len(layout.spots))]
    mean = np.mean([to_shares(abundance).mean(axis=0) for abundance in known], axis=0)
    return np.sort(np.argsort(-mean, kind="stable")[:MAPPED])


def _scores(evaluation: Evaluation, setup: Setup, shown: NDArray[np.int64]) -> dict[str, Any]:
    from histoboost.regress.metrics import spearman
    from histoboost.regress.scores import CrossValidation
    from histoboost.regress.units import to_units

    layout = evaluation.matrix.layout
    scores = CrossValidation(setup, tuple(evaluation.results), 0.0, (setup.seed,))
    found = scores.to_json()
    by_type = {
        slide: spearman(
            to_units(values, "none", target),
            layout.abundance(layout.slides.index(slide)),
            axis=0,
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
    from histoboost.regress.heads import find_model

    return {
        "gain_name": f"Share of {find_model(model).importance or 'the fit'}",
        "gain_means": find_model(model).meaning or None,
        "ways": {
            way: [{"name": name, **values} for name, values in groups.items()]
            for way, groups in evaluation.ways.items()
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
