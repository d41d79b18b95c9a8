"""What a model says of slides that are unlike its own: run one part on data of your own.

    python -m benchmarks.trust foreign WORK mob=mob.h5:32,64,128 bc=her2st.h5:64,128 --weights FILE

``foreign``: every labelled slide is held out in turn; up to two of each set are corrupted (noise,
blur, grey, hue), and slides of the other sets are embedded at its patch sizes. Asked of every
slide: how many of its spots are novel, is it unlike, and what did the corruption cost? Embeddings
are kept in WORK. Slides larger than 300 spots are thinned, corrupted or not.
"""

from __future__ import annotations

import argparse
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
from sklearn.base import clone

from histoboost.cache.store import EmbeddingStore
from histoboost.regress.model import CompositionRegressor
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset, Slide

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
#: Spots of a slide that are kept, and of one of another set.
OWN, OTHER = 300, 150


def grey(image: Pixels) -> Pixels:
    """Luminance alone."""
    return np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2).astype(np.uint8)


def hue(image: Pixels, shift: float) -> Pixels:
    """Hues turned by a share of the circle."""
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 0] = (hsv[..., 0] + shift) % 1
    return np.asarray(hsv_to_rgb(hsv) * 255 + 0.5).astype(np.uint8)


def noisy(image: Pixels) -> Pixels:
    """Gaussian noise of deviation 30 on every channel."""
    noise = np.random.default_rng(0).normal(0, 30, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blur(image: Pixels, sigma: float) -> Pixels:
    """A Gaussian over `sigma` pixels."""
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


def thinned(xy: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """About `count` spots, one of every square of a grid."""
    if len(xy) <= 1.2 * count:
        return np.arange(len(xy))
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    side = np.sqrt(np.prod(extent) / count)
    cell = np.floor((xy - low) / side)
    off_centre = np.hypot(*(xy - low - (cell + 0.5) * side).T)
    order = np.argsort(off_centre)
    _, first = np.unique(cell[order], axis=0, return_index=True)
    return np.sort(order[first])


def write(file: h5py.File, name: str, image: Pixels, slide: Slide, rows: Any, least: int) -> None:
    """One slide in the challenge's layout; mirrored outwards where smaller than a patch."""
    missing = [max(0, (least - side + 1) // 2) for side in image.shape[:2]]
    image = np.pad(image, [(each, each) for each in missing] + [(0, 0)], mode="symmetric")
    labels = slide.abundance is not None and "foreign" not in name
    types = slide.cell_types if labels else ()
    kind = [("x", "f8"), ("y", "f8"), *((each, "f4") for each in types)]
    table = np.zeros(len(rows), kind if labels else [*kind, ("Test_Set", "i4")])
    table["x"], table["y"] = (slide.xy[rows] + missing[::-1]).T
    for column, each in enumerate(types):
        assert slide.abundance is not None
        table[each] = slide.abundance[rows, column]
    split = "Train" if labels else "Test"
    file[f"images/{split}/{name}"], file[f"spots/{split}/{name}"] = image, table


def pixels(slide: Slide) -> Pixels:
    """The whole image."""
    return slide.image.read_rows(0, slide.image.shape[0])


def make(path: Path, own: Dataset, others: dict[str, Dataset], least: int) -> None:
    """Corrupted slides of a set, slides of other sets, and noise."""
    labelled = [slide for slide in own.slides if slide.labelled]
    with h5py.File(path, "w") as file:
        for slide in (labelled[0], labelled[-1]):
            rows = thinned(slide.xy, OWN)
            for name, change in CORRUPTIONS.items():
                write(file, f"{slide.name}~{name}", change(pixels(slide)), slide, rows, least)
        noise = np.random.default_rng(0).integers(0, 256, (*slide.image.shape, 3), dtype=np.uint8)
        write(file, "foreign~noise", noise, slide, thinned(slide.xy, OTHER), least)
        for other, dataset in others.items():
            for slide in (dataset.slides[0], dataset.slides[-1]):
                rows = thinned(slide.xy, OTHER)
                write(file, f"foreign~{other}-{slide.name}", pixels(slide), slide, rows, least)


def featurize(data: Path, store: Path, patches: str, weights: str) -> None:
    """Embed at all layers; what is there already stays."""
    options = ["--backbone", "mobilenet_v2", "--weights", weights, "--layers", "deep"]
    command = [sys.executable, "-m", "histoboost", "featurize", str(data), str(store), *options]
    subprocess.run([*command, "--patch", patches], check=True)


def judged(
    own: EmbeddingStore, foreign: EmbeddingStore, settings: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """What models say of every labelled slide, of corrupted ones and of those of other sets."""
    new = CompositionRegressor(**settings)
    labelled = [slide for slide in own.slides() if own.spots(slide).labelled]
    strange = {name: name.split("~")[0] for name in foreign.slides()}
    for slide in labelled:
        model = clone(new).fit(own, [each for each in labelled if each != slide])
        yield slide, model.predict(own, slide)[0]
        for name in (name for name, origin in strange.items() if origin == slide):
            yield name, model.predict(foreign, name)[0]
    model = clone(new).fit(own, labelled)
    for name in (name for name, origin in strange.items() if origin == "foreign"):
        yield name, model.predict(foreign, name)[0]


def show(title: str, found: dict[str, Any]) -> tuple[list[float], list[float]]:
    """A table of one set; novelty and loss of score of every corrupted slide."""
    print(f"\n| {title} | novel | median novelty | unlike | per-spot / per-type | lost |")
    print("|---|---|---|---|---|---|")
    novelty, loss = [], []
    for name, said in found.items():
        lost, middle, scores = "", float(np.median(said.novelty)), "-"
        if said.scores is not None:
            keys = ("spot_spearman", "type_spearman")
            scores = " / ".join(f"{said.scores[key]:.3f}" for key in keys)
            clean = found.get(f"{name.split('~')[0]}~clean")
            if clean is not None and "~" in name:
                share = [1 - said.scores[key] / clean.scores[key] for key in keys]
                lost = " / ".join(f"{each:.0%}" for each in share)
                novelty.append(middle)
                loss.append(float(np.mean(share)))
        unlike = "yes" if said.unlike else "no"
        print(f"| {name} | {said.novel_share:.0%} | {middle:.2f} | {unlike} | {scores} | {lost} |")
    if len(loss) > 2:
        print(f"\nSpearman of median novelty and loss: {spearmanr(novelty, loss)[0]:.2f}")
    return novelty, loss


def foreign(
    work: Path, sets: dict[str, tuple[str, str]], weights: str, settings: dict[str, str]
) -> None:
    """Corrupted slides and slides of other sets."""
    datasets = {name: open_dataset(data) for name, (data, _) in sets.items()}
    novelty, loss = [], []
    for name, (data, patches) in sets.items():
        mixed, stores = work / f"{name}.h5", [work / f"{name}.zarr", work / f"{name}-foreign.zarr"]
        if not stores[1].exists():
            others = {other: each for other, each in datasets.items() if other != name}
            make(mixed, datasets[name], others, max(map(int, patches.split(","))))
            featurize(mixed, stores[1], patches, weights)
        if not stores[0].exists():
            featurize(Path(data), stores[0], patches, weights)
        own, strange = (EmbeddingStore(store, mode="r") for store in stores)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            more = show(name, dict(judged(own, strange, settings)))
        novelty += more[0]
        loss += more[1]
    print(f"\nSpearman of median novelty and loss, all sets: {spearmanr(novelty, loss)[0]:.2f}")


PARTS = {"foreign": foreign}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser("python -m benchmarks.trust", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("work", type=Path, help="folder for embeddings")
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA:PATCHES")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--features", default="default")
    parser.add_argument("--model", default="stack", help="kernel is quicker on large sets")
    given = parser.parse_args()
    split = [each.partition("=") for each in given.sets]
    sets = {name: tuple(rest.rsplit(":", 1)) for name, _, rest in split}
    given.work.mkdir(exist_ok=True)
    settings = {"features": given.features, "model": given.model}
    PARTS[given.part](given.work, sets, given.weights, settings)


if __name__ == "__main__":
    main()
