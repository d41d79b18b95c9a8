"""Stage 1 against LazySlide: the same tiles of one slide through the same network.

    python -m benchmarks.lazyslide [--json FILE]

Both embed a phantom slide from a tiled TIFF, in alternate rounds. `histoboost.featurize.featurize`
writes a finished store; LazySlide opens the slide, gets the tiles and writes features to its
tables. Loading the network is not timed. The network has our random weights, so that nothing is
downloaded, and both must yield the same features.
"""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

from benchmarks.common import make_parser, names, read_pixels, report, spread
from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.phantom import phantom_slide

#: Lowest correlation allowed between the two embeddings of a tile, which differ in our float16 and
#: in the resizing algorithm.
ALIKE = 0.99
#: Side of a tile in pixels.
PATCH = 128


def write_slide(folder: Path, spots: int) -> tuple[Path, Path, NDArray[np.int64]]:
    """Write a tiled TIFF and its manifest; return both and the top left corners of the tiles.

    Spots are at integer pixels and patches inside the slide, as the two treat edges differently.
    """
    slide = phantom_slide(spots=spots)
    margin = PATCH // 2
    pixels = np.pad(read_pixels(slide), ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    xy = np.rint(slide.xy).astype(np.int64) + margin
    image, manifest = folder / "slide.tif", folder / "slides.csv"
    tifffile.imwrite(image, pixels, tile=(256, 256), photometric="rgb", compression="jpeg")
    pd.DataFrame({"id": range(len(xy)), "x": xy[:, 0], "y": xy[:, 1]}).to_csv(
        folder / "spots.csv", index=False
    )
    manifest.write_text("slide,image,spots\nS,slide.tif,spots.csv\n", encoding="utf-8")
    return image, manifest, xy - margin


def ours(manifest: Path, backbone: str, engine: str) -> tuple[float, NDArray[np.float16]]:
    """Seconds and features of `featurize`."""
    with tempfile.TemporaryDirectory() as folder:
        choices = {"backbone": backbone, "weights": "random", "engine": engine, "device": "cpu"}
        done = featurize(manifest, f"{folder}/store", patch=[PATCH], **choices)
        store = EmbeddingStore(f"{folder}/store", mode="r")
        return sum(done.seconds.values()), store.read("S", f"{backbone}@{PATCH}")


def transform_for(net: Backbone) -> v2.Compose:
    """Preprocessing of a tile for LazySlide."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((net.input_px, net.input_px), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(net.mean, net.std),
        ]
    )


def theirs(
    image: Path, corners: NDArray[np.int64], net: Backbone
) -> tuple[float, NDArray[np.float32]]:
    """Seconds and features of LazySlide, with its default batch size and loader."""
    from lazyslide.tools import feature_extraction
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    options = {"transform": transform_for(net), "device": "cpu", "pbar": False}
    start = time.perf_counter()
    wsi = open_wsi(image, store=None)
    spec = TileSpec(PATCH, PATCH, PATCH, PATCH)
    add_tiles(wsi, "tiles", corners, spec, np.zeros(len(corners), np.int64))
    features = feature_extraction(wsi, net.module, return_features=True, **options)
    return time.perf_counter() - start, features


def least_correlation(left: NDArray, right: NDArray) -> float:
    """Lowest correlation, over tiles, of the two feature vectors of a tile."""
    pairs = zip(left.astype(np.float64), right.astype(np.float64), strict=True)
    return min(float(np.corrcoef(pair)[0, 1]) for pair in pairs)


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--spots", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", type=names, default="torch,openvino")
    parser.add_argument("--json", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    net = load_backbone(args.backbone, "random")
    net.module.eval()
    ratios: dict[str, list[float]] = {engine: [] for engine in args.engines}
    lowest = 1.0
    with tempfile.TemporaryDirectory() as folder:
        image, manifest, corners = write_slide(Path(folder), args.spots)
        for number in range(args.rounds + 1):  # the first is a warm-up
            took, features = theirs(image, corners, net)
            for engine in ratios:
                seconds, rows = ours(manifest, args.backbone, engine)
                lowest = min(lowest, least_correlation(rows, features))
                if number:
                    ratios[engine].append(took / seconds)
                print(f"{engine}: LazySlide {took:.2f} s, histoboost {seconds:.2f} s", flush=True)
    if lowest < ALIKE:
        raise SystemExit(f"embeddings of the same tile differ: correlation {lowest:.3f}")
    figures = {
        "lazyslide": version("lazyslide"),
        "backbone": args.backbone,
        "tiles": len(corners),
        "patch_px": PATCH,
        "least_correlation": lowest,
        "ratios": {engine: spread(values) for engine, values in ratios.items()},
    }
    report(figures, args.json)


if __name__ == "__main__":
    main()
