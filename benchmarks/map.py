"""From a whole-slide file to embeddings of a lattice: how much time is not the network's?

    python -m benchmarks.map [--side 30000] [--backbone NAME] [--lazyslide] [--json FILE]

The slide is a pyramidal TIFF of JPEG tiles, like Aperio's, of which a fifth is (phantom) tissue.
`featurize` places the lattice, reads, crops, embeds and stores; its steps are timed in wall
seconds. ``cpu`` are CPU seconds over all cores, which depend less on other load. A second run, in a
process of its own, finds everything done. Peak memory is that of the process. With ``--lazyslide``,
LazySlide finds tissue, makes tiles at the same pitch and extracts features with the same network;
the two are compared per tile and spot.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import make_parser, read_pixels, report
from histoboost.featurize import featurize
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.phantom import phantom_slide
from histoboost.slides.images import open_image
from histoboost.slides.lattice import lay_lattice
from histoboost.slides.readers.images import plain_slide

#: Tile size in pixels, pixel size, spot pitch and patch size in micrometres.
TILE, UM, PITCH, PATCH = 256, 0.5, 100, 112
PYRAMID = (1, 4, 16)
TISSUE = 0.2


def write_slide(path: Path, side: int) -> None:
    """Write a slide of `side` x `side` px: a central square of tissue, glass around it."""
    stain = read_pixels(phantom_slide(spots=60, pitch_px=PITCH / UM))
    rows, columns = (length // 4 for length in stain.shape[:2])
    stain = stain[rows:-rows, columns:-columns]  # no glass
    half = side / 2 - int(side * (1 - TISSUE**0.5) / 2)

    def tiles(step: int) -> Iterator[NDArray[np.uint8]]:
        small = np.asarray(Image.fromarray(stain).reduce(step))
        starts = range(0, side // step, TILE)
        for rows in (start + np.arange(TILE) for start in starts):
            for columns in (start + np.arange(TILE) for start in starts):
                y, x = (np.abs(each * step - side / 2) < half for each in (rows, columns))
                tissue = small[np.ix_(rows % small.shape[0], columns % small.shape[1])]
                yield np.where((y[:, None] & x)[..., None], tissue, 240).astype(np.uint8)

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for step in PYRAMID:
            tiff.write(
                tiles(step),
                shape=(side // step, side // step, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                resolution=(1e4 / UM / step,) * 2,  # needed by LazySlide
                resolutionunit="CENTIMETER",
                subifds=len(PYRAMID) - 1 if step == 1 else None,
                subfiletype=0 if step == 1 else 1,
            )


def ours(path: Path, folder: Path, backbone: str, engine: str) -> dict[str, Any]:
    """Seconds of every step and of a second run, and peak memory in MiB."""
    start, cpu = time.perf_counter(), time.process_time()
    spots = sum(len(part.xy) for part in lay_lattice(plain_slide(path), PITCH / UM))
    tissue, tissue_cpu = time.perf_counter() - start, time.process_time() - cpu
    settings: dict[str, Any] = {"backbone": backbone, "weights": "random", "engine": engine}
    settings |= {"patch": f"{PATCH}um", "pitch": f"{PITCH}um", "um_per_px": UM, "device": "cpu"}
    cpu = time.process_time()
    done = featurize(path, folder / "store.zarr", **settings)
    featurize_cpu = time.process_time() - cpu
    command = [sys.executable, "-m", "histoboost", "featurize", path, folder / "store.zarr"]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    start, cpu = time.perf_counter(), _children_cpu()
    again = subprocess.run(command, check=True, capture_output=True)
    assert b"nothing computed" in again.stdout
    second = {"wall": time.perf_counter() - start, "cpu": _children_cpu() - cpu}
    forward = done.seconds["forward"]
    return {
        "spots": spots,
        "seconds": {"tissue": tissue, **done.seconds},
        "beside_forward": (tissue + sum(done.seconds.values()) - forward) / forward,
        "cpu": {"tissue": tissue_cpu, "featurize": featurize_cpu},
        "second_run_s": second,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def theirs(path: Path, backbone: str) -> dict[str, Any]:
    """Number of tiles of LazySlide, its seconds for tissue and tiles, and in total."""
    import lazyslide
    from wsidata import open_wsi

    from benchmarks.lazyslide import transform_for

    net = load_backbone(backbone, "random")
    net.module.eval()
    options = {"transform": transform_for(net), "device": "cpu", "pbar": False}
    start = time.perf_counter()
    wsi = open_wsi(path, store=None)
    lazyslide.pp.find_tissues(wsi)
    lazyslide.pp.tile_tissues(wsi, int(PATCH / UM), stride_px=int(PITCH / UM))
    tiled = time.perf_counter() - start
    lazyslide.tl.feature_extraction(wsi, net.module, **options)
    seconds = time.perf_counter() - start
    return {"tiles": len(wsi.shapes["tiles"]), "tiled_s": tiled, "seconds": seconds}


def main() -> None:
    """Write the slide, measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--side", type=int, default=30_000, help="pixels")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--lazyslide", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_slide(path, args.side)
        size = f"{open_image(path).shape}, {path.stat().st_size / 1e6:.0f} MB"
        figures: dict[str, Any] = {"slide": size, "backbone": args.backbone}
        figures |= ours(path, Path(folder), args.backbone, args.engine)
        if args.lazyslide:
            figures["lazyslide"] = theirs(path, args.backbone)
            per_spot = sum(figures["seconds"].values()) / figures["spots"]
            per_tile = figures["lazyslide"]["seconds"] / figures["lazyslide"]["tiles"]
            figures["times_as_fast"] = per_tile / per_spot
    report(figures, args.json)


if __name__ == "__main__":
    main()
