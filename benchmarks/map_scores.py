"""Accuracy of a map: a held-out section without its spots, against `predict` on them.

    python -m benchmarks.map_scores DATA STORE SLIDE [--out SLIDE,..] [--finer 2] [--weights PATH]

A model is trained on the labelled slides of STORE except SLIDE (and those of ``--out``, such as
other sections of the same donor). SLIDE is saved as a pyramidal TIFF without spots and mapped; the
map is interpolated at the true spots and scored per spot and per type (Spearman). ``--enlarged``
also maps the spots on the image enlarged four times and prints the lowest correlation of a type
with `predict`.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from benchmarks.common import make_parser, names, read_pixels
from histoboost import CompositionRegressor, EmbeddingStore, map_slide
from histoboost.regress.metrics import spot_spearman, type_spearman
from histoboost.regress.predictions import Prediction
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.readers import open_dataset

#: Micrometres per pixel if those of the training slides are unknown.
UM = 4.0


def interpolate(prediction: Prediction, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a map at `xy`: linear, and nearest outside its spots."""
    known = prediction.spots.xy, prediction.values
    inside = LinearNDInterpolator(*known)(xy)
    return np.where(np.isnan(inside), NearestNDInterpolator(*known)(xy), inside)


def scores(values: NDArray, truth: NDArray) -> str:
    """Format per-spot / per-type Spearman."""
    return f"{spot_spearman(values, truth):.4f} / {type_spearman(values, truth):.4f}"


def main() -> None:
    """Train, map, score, print."""
    parser = make_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("store")
    parser.add_argument("slide")
    parser.add_argument("--out", type=names, default=[])
    parser.add_argument("--finer", type=int, default=1)
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--enlarged", action="store_true")
    args = parser.parse_args()
    store, slide = EmbeddingStore(args.store, mode="r"), open_dataset(args.data)[args.slide]
    out = {args.slide, *args.out}
    training = [name for name in store.slides(labelled=True) if name not in out]
    model = CompositionRegressor().fit(store, training)
    [expected] = model.predict(store, args.slide, units="share")
    assert slide.abundance is not None
    truth = slide.abundance / np.maximum(slide.abundance.sum(axis=1, keepdims=True), 1e-9)
    print(f"predict on the spots:      {scores(expected.values, truth)}", flush=True)
    bare = replace(slide, name="bare", abundance=None, cell_types=())
    [mapped] = map_slide(bare, model, weights=args.weights)
    error = np.abs(mapped.values - expected.values).max()
    print(f"map on the spots:          differs by at most {error:g}")
    pixels = read_pixels(slide)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.tif"
        with tifffile.TiffWriter(path) as tiff:
            for step in (1, 2):
                level = np.asarray(Image.fromarray(pixels).reduce(step))
                layout = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
                tiff.write(level, subifds=2 - step, subfiletype=step - 1, **layout)
        for finer in sorted({1, args.finer}):
            [mapped] = map_slide(path, model, finer=finer, weights=args.weights)
            found = scores(interpolate(mapped, slide.xy), truth)
            print(f"map, --finer {finer}:            {found}", flush=True)
    if args.enlarged:
        if model.um_per_px_ is None:
            scale = replace(model.guard_.scale, um_per_px=UM)
            model.guard_ = replace(model.guard_, scale=scale)
        size = 4 * pixels.shape[1], 4 * pixels.shape[0]
        large = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        um = (model.um_per_px_ or UM) / 4
        enlarged = replace(bare, image=ArrayImage(large), xy=4 * slide.xy, um_per_px=um)
        [mapped] = map_slide(enlarged, model, weights=args.weights)
        pairs = zip(mapped.values.T, expected.values.T, strict=True)
        lowest = min(float(np.corrcoef(pair)[0, 1]) for pair in pairs)
        print(f"enlarged four times:       correlation at least {lowest:.4f}")


if __name__ == "__main__":
    main()
