"""Stage 1 against LazySlide's feature extraction: the same tiles of one slide, the same network.

    python -m benchmarks.lazyslide [--json FILE]

A phantom slide lies in one tiled TIFF. Ours is `histoboost.featurize.featurize` from that file to a
finished store; theirs opens the slide, is told the tiles and extracts features, which end in its
tables.
Neither time has the loading of the network in it. The network is ours with random weights, so that
nothing is downloaded, and the features of both must agree. Round after round in turn; what counts
are the ratios.
"""

from __future__ import annotations

import argparse
import json
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

from benchmarks.featurize import spread
from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.phantom import phantom_slide

#: The least correlation between our feature vector of a tile and theirs. They differ by float16 in
#: our store and by the algorithm that enlarges a patch.
ALIKE = 0.99


def write_slide(folder: Path, spots: int, patch: int) -> tuple[Path, Path, NDArray[np.int64]]:
    """A tiled TIFF, a manifest that names it, and the upper left corners of the tiles in it.

    Spots at whole pixels, with the patch inside the slide: beyond its edge the two differ.
    """
    slide = phantom_slide(spots=spots)
    pixels = slide.image.read_rows(0, slide.image.shape[0])
    margin = patch // 2
    pixels = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    xy = np.rint(slide.xy).astype(np.int64) + margin
    image, manifest = folder / "slide.tif", folder / "slides.csv"
    tifffile.imwrite(image, pixels, tile=(256, 256), photometric="rgb", compression="jpeg")
    pd.DataFrame({"id": range(len(xy)), "x": xy[:, 0], "y": xy[:, 1]}).to_csv(
        folder / "spots.csv", index=False
    )
    manifest.write_text("slide,image,spots\nS,slide.tif,spots.csv\n", encoding="utf-8")
    return image, manifest, xy - margin


def ours(
    manifest: Path, backbone: str, patch: int, engine: str, device: str
) -> tuple[float, NDArray[np.float16]]:
    """Seconds and features of our stage 1."""
    with tempfile.TemporaryDirectory() as folder:
        choices = {"backbone": backbone, "weights": "random", "engine": engine, "device": device}
        done = featurize(manifest, f"{folder}/store", patch=[patch], **choices)
        store = EmbeddingStore(f"{folder}/store", mode="r")
        return sum(done.seconds.values()), store.read("S", f"{backbone}@{patch}")


def theirs(
    image: Path, corners: NDArray[np.int64], net: Backbone, patch: int, device: str
) -> tuple[float, NDArray[np.float32]]:
    """Seconds and features of LazySlide, with its default batch size and loader."""
    from lazyslide.tools import feature_extraction
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((net.input_px, net.input_px), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(net.mean, net.std),
        ]
    )
    start = time.perf_counter()
    wsi = open_wsi(image, store=None)
    spec = TileSpec(patch, patch, patch, patch)
    add_tiles(wsi, "tiles", corners, spec, np.zeros(len(corners), np.int64))
    found = feature_extraction(
        wsi, net.module, transform=transform, device=device, pbar=False, return_features=True
    )
    return time.perf_counter() - start, found


def least_correlation(left: NDArray, right: NDArray) -> float:
    """Of the features of one tile in both, the least over the tiles."""
    pairs = zip(left.astype(np.float64), right.astype(np.float64), strict=True)
    return min(float(np.corrcoef(one, other)[0, 1]) for one, other in pairs)


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--spots", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", default="torch,openvino")
    parser.add_argument("--json", type=Path)
    choice = parser.parse_args()
    net = load_backbone(choice.backbone, "random")
    net.module.eval()
    ratios: dict[str, list[float]] = {engine: [] for engine in choice.engines.split(",")}
    alike = 1.0
    with tempfile.TemporaryDirectory() as folder:
        image, manifest, corners = write_slide(Path(folder), choice.spots, choice.patch)
        for number in range(choice.rounds + 1):  # the first warms everything up
            took, features = theirs(image, corners, net, choice.patch, choice.device)
            for engine, found in ratios.items():
                seconds, rows = ours(manifest, choice.backbone, choice.patch, engine, choice.device)
                alike = min(alike, least_correlation(rows, features))
                if number:
                    found.append(took / seconds)
                print(f"{engine}: LazySlide {took:.2f} s, histoboost {seconds:.2f} s", flush=True)
    if alike < ALIKE:
        raise SystemExit(f"the two do not embed the same tiles: they correlate by {alike:.3f}")
    result = {
        "lazyslide": version("lazyslide"),
        "backbone": choice.backbone,
        "tiles": len(corners),
        "patch_px": choice.patch,
        "device": choice.device,
        "least_correlation": alike,
        "ratios": {engine: spread(found) for engine, found in ratios.items()},
    }
    print(json.dumps(result, indent=2))
    if choice.json:
        choice.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
