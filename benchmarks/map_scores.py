"""How good is a map? A held-out section without its spots, against `predict` on them.

    python -m benchmarks.map_scores DATA STORE SLIDE [--out SLIDE,..] [--finer 2] [--weights PATH]

A model is trained on the labelled slides of STORE but SLIDE (and those of ``--out``, such as other
sections of its donor). SLIDE is saved as a pyramidal TIFF without spots and mapped; the map is
interpolated to the true spots and scored there, per spot and per type (Spearman). ``--enlarged``
also maps its spots on the image enlarged four times and gives the correlations with `predict`, type
by type.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from histoboost import CompositionRegressor, EmbeddingStore, map_slide
from histoboost.regress.metrics import spearman
from histoboost.regress.predictions import Prediction
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.readers import open_dataset

#: Micrometres per pixel of training slides that do not tell theirs.
UM = 4.0


def at(prediction: Prediction, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map between its places: linear, and beyond them the nearest."""
    places = prediction.spots.xy, prediction.values
    inside = LinearNDInterpolator(*places)(xy)
    return np.where(np.isnan(inside), NearestNDInterpolator(*places)(xy), inside)


def scores(values: NDArray, truth: NDArray) -> str:
    """Per spot / per type."""
    return f"{spearman(values, truth, 1).mean():.4f} / {spearman(values, truth, 0).mean():.4f}"


def main() -> None:
    """Train, map, score, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("store")
    parser.add_argument("slide")
    parser.add_argument("--out", default="")
    parser.add_argument("--finer", type=int, default=1)
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--enlarged", action="store_true")
    choice = parser.parse_args()
    store, slide = EmbeddingStore(choice.store, mode="r"), open_dataset(choice.data)[choice.slide]
    out = {choice.slide, *choice.out.split(",")}
    known = [name for name in store.slides() if name not in out and store.spots(name).labelled]
    model = CompositionRegressor().fit(store, known)
    [said] = model.predict(store, choice.slide, units="share")
    assert slide.abundance is not None
    truth = slide.abundance / np.maximum(slide.abundance.sum(axis=1, keepdims=True), 1e-9)
    print(f"predict on the spots:      {scores(said.values, truth)}", flush=True)
    bare = replace(slide, name="bare", abundance=None, cell_types=())
    [same] = map_slide(bare, model, weights=choice.weights)
    print(f"map on the spots:          at most {np.abs(same.values - said.values).max():g} off")
    pixels = slide.image.read_rows(0, slide.image.shape[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.tif"
        with tifffile.TiffWriter(path) as tiff:
            for step in (1, 2):
                level = np.asarray(Image.fromarray(pixels).reduce(step))
                layout = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
                tiff.write(level, subifds=2 - step, subfiletype=step - 1, **layout)
        for finer in sorted({1, choice.finer}):
            [found] = map_slide(path, model, finer=finer, weights=choice.weights)
            print(
                f"map, --finer {finer}:            {scores(at(found, slide.xy), truth)}", flush=True
            )
    if choice.enlarged:
        if model.um_per_px_ is None:
            scale = replace(model.guard_.scale, um_per_px=UM)
            model.guard_ = replace(model.guard_, scale=scale)
        size = 4 * pixels.shape[1], 4 * pixels.shape[0]
        large = ArrayImage(
            np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        )
        um = (model.um_per_px_ or UM) / 4
        enlarged = replace(bare, image=ArrayImage(large), xy=4 * slide.xy, um_per_px=um)
        [found] = map_slide(enlarged, model, weights=choice.weights)
        pairs = zip(found.values.T, said.values.T, strict=True)
        like = [float(np.corrcoef(one, other)[0, 1]) for one, other in pairs]
        print(f"enlarged four times:       correlates by {min(like):.4f} or more")


if __name__ == "__main__":
    main()
