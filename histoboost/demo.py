"""Run the full pipeline on synthetic slides, without downloads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, require, warnings_kept
from histoboost.io import write_text, write_whole
from histoboost.phantom import phantom_slide, write_phantom

#: Statistics of stain and texture, without weights.
BACKBONE = "stain-texture"

#: Number of labelled slides, and spot pitch.
SLIDES, PITCH_PX = 4, 25.0

#: Sides of the patches: a spot with its rim, and with its neighbours.
PATCHES = (32, 64)

#: Models to score, worst first, with their names in the table.
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


def run(
    out: str | Path,
    *,
    backbone: str,
    weights: str,
    spots: int,
    say: Callable[[str], None],
) -> None:
    """Write synthetic slides, embed, cross-validate, train, predict, report, map; show scores.

    Reuses results of the same demo in `out`, and refuses a folder with other content. Slides have
    about `spots` spots each; `say` prints a line.
    """
    require("demo", "torch", "torch")
    from histoboost.featurize import featurize
    from histoboost.map import map_slide
    from histoboost.outputs.predictions import write_predictions
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
        "plain": folder / "plain.png",
        "map": folder / "map.png",
        "qupath": folder / "map.geojson",
    }
    say(f"1. Synthetic slides: {SLIDES} labelled, 1 unlabelled, about {spots} spots each.")
    _write_slides(paths["slides"], spots)
    sides = " and ".join(map(str, PATCHES))
    say(f"2. featurize: patches of {sides} px, backbone {_describe(backbone, weights)}.")
    done = featurize(
        paths["slides"], paths["store"], backbone=backbone, patch=PATCHES, weights=weights
    )
    say(f"   {done}")
    store = EmbeddingStore(paths["store"], mode="r")
    features = _features(backbone)
    say("3. evaluate: each labelled slide held out in turn.")
    say(f"   {features}")
    rows = _scores(store, features)
    say("4. train on all labelled slides, predict the unlabelled one.")
    model = CompositionRegressor(features).fit(store)
    model.save(paths["model"])
    predictions = model.predict(store)
    write_submission(paths["submission"], predictions)
    say("5. report: maps, scores, importances and learning curves on one page.")
    report(paths["store"], paths["model"], paths["report"])
    say("6. map: a slide without spots, all over its tissue.")
    _write_plain(paths["plain"], spots)
    with warnings_kept() as heard:
        mapped = map_slide(paths["plain"], model, weights=[] if backbone == BACKBONE else weights)
    for line in heard:
        say(f"   {line}")
    for file in (paths["map"], paths["qupath"]):
        write_predictions(file, mapped)
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


def _write_slides(slides: Path, spots: int) -> None:
    """Write the slides, unless the folder has other content than this demo."""
    new = slides.with_name("slides.h5.part")
    files = {file.name for file in slides.parent.iterdir()} - {new.name}
    write_phantom(new, slides=SLIDES, spots=spots, pitch_px=PITCH_PX)
    if files and not (slides.is_file() and new.read_bytes() == slides.read_bytes()):
        new.unlink()
        what = "a demo with other slides" if slides.name in files else "other files"
        raise BadInput(f"{slides.parent}: contains {what}; choose another folder with --out")
    new.replace(slides)


def _write_plain(path: Path, spots: int) -> None:
    from PIL import Image

    image = phantom_slide(seed=SLIDES + 1, spots=spots, pitch_px=PITCH_PX).image
    pixels = Image.fromarray(image.read_rows(0, image.shape[0]))
    write_whole(path, pixels.save)


def _features(backbone: str) -> str:
    """All patch sizes, and the neighbourhood of the smallest."""
    names = [f"{backbone}@{px}" for px in PATCHES]
    return "+".join([*names, f"{names[0]}:ring1"])


def _scores(store: EmbeddingStore, features: str) -> list[dict[str, Any]]:
    """Mean scores of all models on held-out slides."""
    from histoboost.regress.crossval import cross_validate

    results = {model: cross_validate(store, features, model) for model in MODELS}
    return [
        {"model": model, **{score: round(result.mean(score), 4) for score in SCORES}}
        for model, result in results.items()
    ]


def _show(result: dict[str, Any], say: Callable[[str], None]) -> None:
    width = max(map(len, MODELS.values()))
    say("")
    say(f"{'Spearman, held-out slides':<{width}}{'per spot':>10}{'per type':>10}")
    for row in result["rows"]:
        constant = row["model"] in CONSTANT
        per_type = "-" if constant else f"{row['type_spearman']:.3f}"
        say(f"{MODELS[row['model']]:<{width}}{row['spot_spearman']:>10.3f}{per_type:>10}")
    say("Constant profiles score per spot, too: judge a model by the difference.")
    say("")
    for name, path in result["paths"].items():
        say(f"{name:<12}{path}")
    say(f"Done in {result['seconds']:.0f} s. On your own slides: histoboost inspect DATA")


def _describe(backbone: str, weights: str) -> str:
    if backbone == BACKBONE:
        return f"{backbone} (statistics of stain, colour and texture, which has no weights)"
    if weights == "random":
        return f"{backbone} with RANDOM weights: an untrained network, for tests only"
    return f"{backbone}, weights {weights}"
