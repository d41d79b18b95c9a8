"""From a whole-slide file to a map: how long is all that is not the network?

    python -m benchmarks.map [--side 30000] [--backbone NAME] [--lazyslide] [--json FILE]

A tiled JPEG TIFF like an Aperio file, with a pyramid, of which a fifth is tissue (a phantom's,
repeated). `featurize` lays the lattice on it, reads, crops, embeds and stores; the seconds of each
step are its own; `cpu` are seconds of all cores, which other programs on the machine add less to. A
second run, a command of its own, finds all done. Peak memory is that of the process. With
``--lazyslide`` LazySlide finds tissue, tiles it at the same pitch and extracts features with the
same network, in the same run; its rate is given for each of its tiles.
"""

from __future__ import annotations

import argparse
import json
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

from histoboost.featurize import featurize
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.phantom import phantom_slide
from histoboost.slides.images import open_image
from histoboost.slides.lattice import lay_lattice
from histoboost.slides.readers.images import plain_slide

#: Of the file; pixels are half a micrometre wide, and the lattice's spots 100 um apart.
TILE, UM, PITCH, PATCH = 256, 0.5, 100, 112
PYRAMID = (1, 4, 16)
TISSUE = 0.2


def write_slide(path: Path, side: int) -> None:
    """A slide of `side` x `side` px: tissue in a square in the middle, glass about it."""
    phantom = phantom_slide(spots=60, pitch_px=PITCH / UM).image
    stain = phantom.read_rows(0, phantom.shape[0])
    rows, columns = (length // 4 for length in stain.shape[:2])
    stain = stain[rows:-rows, columns:-columns]  # the middle of the section
    first = int(side * (1 - TISSUE**0.5) / 2)

    def tiles(step: int) -> Iterator[NDArray[np.uint8]]:
        small = np.asarray(Image.fromarray(stain).reduce(step))
        along = np.arange(TILE)
        for top in range(0, side // step, TILE):
            for left in range(0, side // step, TILE):
                inside = [
                    np.abs((k + along) * step - side / 2) < side / 2 - first for k in (top, left)
                ]
                on = inside[0][:, None, None] & inside[1][None, :, None]
                rows, columns = (
                    (k + along) % n for k, n in zip((top, left), small.shape, strict=False)
                )
                yield np.where(on, small[rows][:, columns], 240).astype(np.uint8)

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
                resolution=(1e4 / UM / step,) * 2,  # LazySlide looks for it
                resolutionunit="CENTIMETER",
                subifds=len(PYRAMID) - 1 if step == 1 else None,
                subfiletype=0 if step == 1 else 1,
            )


def ours(path: Path, folder: Path, backbone: str, engine: str) -> dict[str, Any]:
    """Seconds of every step, of a second run, and megabytes at the peak."""
    start, cpu = time.perf_counter(), time.process_time()
    spots = sum(len(one.xy) for one in lay_lattice(plain_slide(path), PITCH / UM))
    tissue, tissue_cpu = time.perf_counter() - start, time.process_time() - cpu
    choices: dict[str, Any] = {"backbone": backbone, "weights": "random", "engine": engine}
    choices |= {"patch": f"{PATCH}um", "pitch": f"{PITCH}um", "um_per_px": UM, "device": "cpu"}
    cpu = time.process_time()
    done = featurize(path, folder / "store.zarr", **choices)
    whole_cpu = time.process_time() - cpu
    options = [part for name, value in choices.items() for part in (_option(name), str(value))]
    command = [sys.executable, "-m", "histoboost", "featurize", str(path), *options]
    start, cpu = time.perf_counter(), _children_cpu()
    again = subprocess.run([*command, str(folder / "store.zarr")], check=True, capture_output=True)
    assert b"nothing computed" in again.stdout
    second = {"wall": time.perf_counter() - start, "cpu": _children_cpu() - cpu}
    forward = done.seconds["forward"]
    beside = tissue + sum(done.seconds.values()) - forward
    return {
        "spots": spots,
        "seconds": {"tissue": tissue, **done.seconds},
        "beside_forward": beside / forward,
        "cpu": {"tissue": tissue_cpu, "featurize": whole_cpu},
        "second_run_s": second,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def theirs(path: Path, backbone: str) -> dict[str, Any]:
    """Tiles of LazySlide, and its seconds for tissue and tiles, and with features."""
    import lazyslide
    import torch
    from torchvision.transforms import v2
    from wsidata import open_wsi

    net = load_backbone(backbone, "random")
    net.module.eval()
    resize = v2.Resize((net.input_px, net.input_px), antialias=True)
    to_float = v2.ToDtype(torch.float32, scale=True)
    transform = v2.Compose([v2.ToImage(), resize, to_float, v2.Normalize(net.mean, net.std)])
    start = time.perf_counter()
    wsi = open_wsi(path, store=None)
    lazyslide.pp.find_tissues(wsi)
    lazyslide.pp.tile_tissues(wsi, int(PATCH / UM), stride_px=int(PITCH / UM))
    tiled = time.perf_counter() - start
    lazyslide.tl.feature_extraction(wsi, net.module, transform=transform, device="cpu", pbar=False)
    seconds = time.perf_counter() - start
    return {"tiles": len(wsi.shapes["tiles"]), "tiled_s": tiled, "seconds": seconds}


def main() -> None:
    """Write the slide, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--lazyslide", action="store_true")
    parser.add_argument("--json", type=Path)
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_slide(path, choice.side)
        size = f"{open_image(path).shape}, {path.stat().st_size / 1e6:.0f} MB"
        result = {"slide": size, "backbone": choice.backbone}
        result |= ours(path, Path(folder), choice.backbone, choice.engine)
        if choice.lazyslide:
            result["lazyslide"] = found = theirs(path, choice.backbone)
            whole = sum(result["seconds"].values()) / result["spots"]  # type: ignore[arg-type]
            result["times_as_fast"] = found["seconds"] / found["tiles"] / whole
    print(json.dumps(result, indent=2))
    if choice.json:
        choice.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
