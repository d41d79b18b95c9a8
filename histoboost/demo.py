"""The main job on synthetic slides: nothing to download, nothing to prepare."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, require
from histoboost.io import write_text
from histoboost.phantom import write_phantom

#: Weights-free statistics of stain and texture.
BACKBONE = "stain-texture"

#: Labelled slides, and distance between spots.
SLIDES, PITCH_PX = 4, 25.0

#: Sides of the patches: a spot and its rim, and the spots around it.
PATCHES = (32, 64)

#: What is scored, worst first, and how it is called in the table.
MODELS = {
    "mean": "constant: mean profile",
    "mean-rank": "constant: mean-rank profile",
    "coords": "coordinates only",
    "ridge": "embeddings, ridge regression",
    "lightgbm": "embeddings, LightGBM",
    "stack": "embeddings, LightGBM on kernel ridge",
}
CONSTANT = ("mean", "mean-rank")
SCORES = ("spot_spearman", "type_spearman")

Say = Callable[[str], None]


def run(
    out: str | Path,
    *,
    backbone: str = BACKBONE,
    weights: str = "pretrained",
    spots: int = 250,
    say: Say = print,
) -> dict[str, Any]:
    """Write phantom slides, embed, cross-validate, train, predict, report, show the scores.

    What an earlier run of the same demo left in `out` is used again.

    Parameters
    ----------
    out : str or Path
        Folder, made if it does not exist.
    backbone, weights : str
        As in `histoboost.featurize.featurize`; the default backbone needs no weights.
    spots : int
        Spots per slide, about.
    say : callable
        Takes every line meant for people.

    Returns
    -------
    dict
        ``{"backbone", "weights", "rows": [{"model", "spot_spearman", "type_spearman"}],
        "paths": {..}, "seconds"}``; the same is written to ``scores.json``.

    Raises
    ------
    HistoboostError
        If `out` holds the demo of other slides.
    """
    require("demo", "torch", "torch")
    from histoboost.featurize import featurize
    from histoboost.outputs.table import write_submission
    from histoboost.regress.model import CompositionRegressor
    from histoboost.report.model_report import report

    start = time.perf_counter()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "slides": folder / "slides.h5",
        "store": folder / "store.zarr",
        "model": folder / "model",
        "submission": folder / "submission.csv",
        "scores": folder / "scores.json",
        "report": folder / "report.html",
    }
    say(
        f"1. Phantom slides, tissue and cells made up: {SLIDES} labelled, 1 without labels, "
        f"about {spots} spots each."
    )
    _write_slides(paths["slides"], paths["store"], spots)
    say(f"2. Featurize, patches of {_list(PATCHES)} px: {_describe(backbone, weights)}.")
    done = featurize(
        paths["slides"], paths["store"], backbone=backbone, patch=PATCHES, weights=weights
    )
    say(f"   {done}")
    store = EmbeddingStore(paths["store"], mode="r")
    features = _features(backbone)
    say(f"3. Evaluate, each labelled slide held out in turn:\n   {features}")
    rows = _scores(store, features)
    say("4. Train on all labelled slides, predict the one without labels.")
    model = CompositionRegressor(features).fit(store)
    model.save(paths["model"])
    predictions = model.predict(store)
    write_submission(paths["submission"], model.cell_types_, predictions)
    say("5. Report: maps, scores, importances and learning curves on one page.")
    report(paths["store"], paths["model"], paths["report"])
    result = {
        "backbone": backbone,
        "weights": None if backbone == BACKBONE else weights,
        "features": features,
        "rows": rows,
        "paths": {name: str(path) for name, path in paths.items()},
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_text(paths["scores"], json.dumps(result, indent=2) + "\n")
    _show(result, say)
    return result


def _write_slides(slides: Path, store: Path, spots: int) -> None:
    made = slides.with_name("slides.h5.part")
    write_phantom(made, slides=SLIDES, spots=spots, pitch_px=PITCH_PX)
    if store.exists() and slides.exists() and made.read_bytes() != slides.read_bytes():
        made.unlink()
        raise BadInput(
            f"{slides.parent}: holds a demo of other slides; give another folder with --out"
        )
    made.replace(slides)


def _features(backbone: str) -> str:
    """Every patch size, and the neighbourhood of the smallest."""
    names = [f"{backbone}@{px}" for px in PATCHES]
    return "+".join([*names, f"{names[0]}:ring1"])


def _scores(store: EmbeddingStore, features: str) -> list[dict[str, Any]]:
    """Scores of the constant baselines and of models, held-out slides, means over folds."""
    from histoboost.regress.crossval import cross_validate

    rows = []
    for model in MODELS:
        found = cross_validate(store, features, model)
        means = {score: round(found.mean(score), 4) for score in SCORES}
        rows.append({"model": model, **means})
    return rows


def _show(result: dict[str, Any], say: Say) -> None:
    width = max(map(len, MODELS.values()))
    say("")
    say(f"{'Spearman, held-out slides':<{width}}{'per spot':>10}{'per type':>10}")
    for row in result["rows"]:
        constant = row["model"] in CONSTANT
        per_type = "-" if constant else f"{row['type_spearman']:.3f}"
        say(f"{MODELS[row['model']]:<{width}}{row['spot_spearman']:>10.3f}{per_type:>10}")
    say("A constant guess scores per spot, too: compare with it. Per type: across spots.")
    say("")
    for name, path in result["paths"].items():
        say(f"{name:<12}{path}")
    say(f"Done in {result['seconds']:.0f} s. On your own slides: histoboost inspect DATA")


def _describe(backbone: str, weights: str) -> str:
    if backbone == BACKBONE:
        return (
            f"backbone {backbone}, which has no weights\n"
            "   (statistics of stain, colour and texture, no neural network)"
        )
    if weights == "random":
        return f"backbone {backbone} with RANDOM weights: an untrained network, for tests only"
    return f"backbone {backbone}, weights {weights}"


def _list(sizes: Sequence[int]) -> str:
    return " and ".join(str(size) for size in sizes)
