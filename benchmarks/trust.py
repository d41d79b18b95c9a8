"""Novelty on slides unlike those of training, on your own data.

    python -m benchmarks.trust foreign WORK mob=mob.h5:32,64,128 bc=her2st.h5:64,128 --weights FILE

``foreign``: every labelled slide is held out in turn; two of each set are also predicted corrupted
(noise, blur, grey, hue), and slides of the other sets are embedded at its patch sizes. Printed for
every slide are the fraction of novel spots, whether it is unlike training, its scores and what the
corruption costs. Embeddings are kept in WORK. Corrupted slides, and their clean copies, are thinned
to 300 spots.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from benchmarks.common import make_parser, read_pixels
from histoboost.cache.store import EmbeddingStore
from histoboost.regress.model import CompositionRegressor
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
#: Spots kept of a corrupted slide, and of a slide of another set.
OWN, OTHER = 300, 150


def grey(image: Pixels) -> Pixels:
    """Replace colour by luminance."""
    return np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2).astype(np.uint8)


def hue(image: Pixels, shift: float) -> Pixels:
    """Rotate hues by a fraction of the circle."""
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 0] = (hsv[..., 0] + shift) % 1
    return np.asarray(hsv_to_rgb(hsv) * 255 + 0.5).astype(np.uint8)


def noisy(image: Pixels) -> Pixels:
    """Add Gaussian noise of standard deviation 30 to every channel."""
    noise = np.random.default_rng(0).normal(0, 30, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blur(image: Pixels, sigma: float) -> Pixels:
    """Apply a Gaussian filter of `sigma` pixels."""
    return np.asarray(gaussian_filter(image, (sigma, sigma, 0)))


CORRUPTIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "clean": lambda image: image,
    "noisy": noisy,
    "blur2": lambda image: blur(image, 2),
    "blur4": lambda image: blur(image, 4),
    "grey": grey,
    "hue": lambda image: hue(image, 0.1),
    "hue2": lambda image: hue(image, -0.06),
}


def thin(xy: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Rows of about `count` spots, one per square of a grid."""
    if len(xy) <= 1.2 * count:
        return np.arange(len(xy))
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    side = np.sqrt(np.prod(extent) / count)
    cell = np.floor((xy - low) / side)
    off_centre = np.hypot(*(xy - low - (cell + 0.5) * side).T)
    order = np.argsort(off_centre)
    _, first = np.unique(cell[order], axis=0, return_index=True)
    return np.sort(order[first])


def write(file: h5py.File, name: str, image: Pixels, slide: Slide, rows: Any, patch: int) -> None:
    """Write a slide in the challenge's format, mirrored outwards if smaller than a patch."""
    margins = [max(0, (patch - side + 1) // 2) for side in image.shape[:2]]
    image = np.pad(image, [(margin, margin) for margin in margins] + [(0, 0)], mode="symmetric")
    labelled = slide.abundance is not None and "foreign" not in name
    types = slide.cell_types if labelled else ()
    labels = [(cell_type, "f4") for cell_type in types] if labelled else [("Test_Set", "i4")]
    table = np.zeros(len(rows), [("x", "f8"), ("y", "f8"), *labels])
    table["x"], table["y"] = (slide.xy[rows] + margins[::-1]).T
    for column, cell_type in enumerate(types):
        assert slide.abundance is not None
        table[cell_type] = slide.abundance[rows, column]
    split = "Train" if labelled else "Test"
    file[f"images/{split}/{name}"], file[f"spots/{split}/{name}"] = image, table


def make_foreign(path: Path, own: Dataset, others: dict[str, Dataset], patch: int) -> None:
    """Write corrupted slides of a set, slides of other sets and one of noise."""
    labelled = [slide for slide in own.slides if slide.labelled]
    with h5py.File(path, "w") as file:
        for slide in (labelled[0], labelled[-1]):
            rows = thin(slide.xy, OWN)
            for name, corrupt in CORRUPTIONS.items():
                image = corrupt(read_pixels(slide))
                write(file, f"{slide.name}~{name}", image, slide, rows, patch)
        noise = np.random.default_rng(0).integers(0, 256, (*slide.image.shape, 3), dtype=np.uint8)
        write(file, "foreign~noise", noise, slide, thin(slide.xy, OTHER), patch)
        for other, dataset in others.items():
            for slide in (dataset.slides[0], dataset.slides[-1]):
                name, rows = f"foreign~{other}-{slide.name}", thin(slide.xy, OTHER)
                write(file, name, read_pixels(slide), slide, rows, patch)


def featurize(data: Path, store: Path, patches: str, weights: str) -> None:
    """Embed with all layers."""
    options = ["--backbone", "mobilenet_v2", "--weights", weights, "--layers", "deep"]
    command = [sys.executable, "-m", "histoboost", "featurize", str(data), str(store), *options]
    subprocess.run([*command, "--patch", patches], check=True)


def predict_all(
    own: EmbeddingStore, foreign: EmbeddingStore, model: str
) -> Iterator[tuple[str, Any]]:
    """Predictions for every labelled slide, corrupted slides and slides of other sets, by name."""
    labelled = own.slides(labelled=True)
    origins = {name: name.split("~")[0] for name in foreign.slides()}
    for held_out in [*labelled, "foreign"]:
        training = [slide for slide in labelled if slide != held_out]
        fitted = CompositionRegressor(model=model).fit(own, training)
        if held_out in labelled:
            yield held_out, fitted.predict(own, held_out)[0]
        for name in (name for name, origin in origins.items() if origin == held_out):
            yield name, fitted.predict(foreign, name)[0]


def show(title: str, predictions: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Print a table of one set; return median novelty and loss of score of corrupted slides."""
    print(f"\n| {title} | novel | median novelty | unlike | per-spot / per-type | lost |")
    print("|---|---|---|---|---|---|")
    novelty, loss = [], []
    for name, predicted in predictions.items():
        lost, median, scores = "", float(np.median(predicted.novelty)), "-"
        if predicted.scores is not None:
            keys = ("spot_spearman", "type_spearman")
            scores = " / ".join(f"{predicted.scores[key]:.3f}" for key in keys)
            clean = predictions.get(f"{name.split('~')[0]}~clean")
            if clean is not None and "~" in name:
                share = [1 - predicted.scores[key] / clean.scores[key] for key in keys]
                lost = " / ".join(f"{each:.0%}" for each in share)
                novelty.append(median)
                loss.append(float(np.mean(share)))
        cells = [name, f"{predicted.novel_share:.0%}", f"{median:.2f}"]
        print(f"| {' | '.join([*cells, 'yes' if predicted.unlike else 'no', scores, lost])} |")
    if len(loss) > 2:
        print(f"\nSpearman of median novelty and loss: {spearmanr(novelty, loss)[0]:.2f}")
    return novelty, loss


def main() -> None:
    """Print a table for every set, and the correlation of novelty and loss over all."""
    parser = make_parser(__doc__)
    parser.add_argument("part", choices=["foreign"])
    parser.add_argument("work", type=Path, help="folder for embeddings")
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA:PATCHES")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--model", default="stack", help="kernel is faster on large sets")
    args = parser.parse_args()
    split = [each.partition("=") for each in args.sets]
    sets = {name: rest.rsplit(":", 1) for name, _, rest in split}
    args.work.mkdir(exist_ok=True)
    datasets = {name: open_dataset(data) for name, (data, _) in sets.items()}
    novelty, loss = [], []
    for name, (data, patches) in sets.items():
        paths = args.work / f"{name}.zarr", args.work / f"{name}-foreign.zarr"
        if not paths[1].exists():
            others = {other: each for other, each in datasets.items() if other != name}
            mixed = args.work / f"{name}.h5"
            make_foreign(mixed, datasets[name], others, max(map(int, patches.split(","))))
            featurize(mixed, paths[1], patches, args.weights)
        if not paths[0].exists():
            featurize(Path(data), paths[0], patches, args.weights)
        stores = [EmbeddingStore(path, mode="r") for path in paths]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            more = show(name, dict(predict_all(*stores, args.model)))
        novelty += more[0]
        loss += more[1]
    print(f"\nSpearman of median novelty and loss, all sets: {spearmanr(novelty, loss)[0]:.2f}")


if __name__ == "__main__":
    main()
