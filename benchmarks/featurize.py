"""Stage 1 against its own forward pass and against the field's usual way.

Three contestants embed the same spots of one slide at the challenge's size, round after round in
turn, so that whatever else the machine does hits all of them alike:

- ``forward``: the backbone alone, on a batch that is in memory already, same engine as ours; half
  of it before ours and half after, so that a machine that grows slower meanwhile hits both;
- ``ours``: `histoboost.featurize.featurize`, from an HDF5 file to a finished store: reading,
  cropping, forward and writing, without loading weights and making the engine;
- ``usual``: one PIL crop per patch and a torchvision transform in a DataLoader, eager fp32 NCHW; on
  a tenth of the patches, since its rate does not depend on their number, and without reading the
  slide.

What counts are ratios, so each is printed with its minimum, median and maximum over the rounds::

    python -m benchmarks.featurize    # on the CPU, torch and OpenVINO
    python -m benchmarks.gpu          # the same on a GPU, for small and large backbones
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import pick_device, pick_engine
from histoboost.slides.readers import open_dataset

SIDE = 2000


def write_slide(path: Path, spots: int) -> None:
    """A float32 slide of 2,000 x 2,000 px, as the challenge stores them."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 250, 250), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    pixels = smooth[0].permute(1, 2, 0).numpy() * 0.8
    pixels += rng.random((SIDE, SIDE, 3), np.float32) * 0.2
    table = np.zeros(spots, [("x", "i8"), ("y", "i8")])
    table["x"], table["y"] = rng.integers(20, SIDE - 20, (2, spots))
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images/Test/S_7", data=pixels, chunks=(256, 256, 3), compression="gzip"
        )
        file["spots/Test/S_7"] = table


class UsualPatches(Dataset):
    """What most public solutions do: a PIL crop and a transform per patch."""

    def __init__(self, path: Path, sizes: list[int], net: Backbone) -> None:
        from PIL import Image
        from torchvision import transforms

        slide = open_dataset(path).slides[0]
        with h5py.File(path) as file:
            whole = (file["images/Test/S_7"][()] * 255).astype(np.uint8)
        margin = max(sizes)
        padded = np.pad(whole, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
        self.image = Image.fromarray(padded)
        self.boxes = [
            (x + margin - px // 2, y + margin - px // 2, x + margin + px // 2, y + margin + px // 2)
            for px in sizes
            for x, y in slide.xy.astype(int)
        ]
        self.transform = transforms.Compose(
            [
                transforms.Resize((net.input_px, net.input_px)),
                transforms.ToTensor(),
                transforms.Normalize(net.mean, net.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.image.crop(self.boxes[index]).convert("RGB"))


def usual(path: Path, sizes: list[int], net: Backbone, device: torch.device, batch: int) -> float:
    """Seconds of the field's usual way, scaled from a tenth of the patches."""
    module = net.module.to(device)
    workers = 0 if device.type == "cpu" else (os.cpu_count() or 1)
    everything = UsualPatches(path, sizes, net)
    tenth = Subset(everything, range(0, len(everything), 10))
    start = time.perf_counter()
    with torch.no_grad():
        loader = DataLoader(tenth, batch_size=batch, num_workers=workers)
        np.concatenate([module(part.to(device)).cpu().numpy() for part in loader])
    return (time.perf_counter() - start) * len(everything) / len(tenth)


def forward(engine: Engine, net: Backbone, count: int) -> float:
    """Seconds of the backbone alone, on as many patches, from a batch that lies in memory."""
    noise = torch.Generator().manual_seed(0)
    shape = (engine.batch, net.input_px or 64, net.input_px or 64, 3)
    batch = torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise)
    batch = batch.permute(0, 3, 1, 2).to(engine.device)
    passes = -(-count // engine.batch)
    start = time.perf_counter()
    waiting = None
    for _ in range(passes):
        pending = engine.submit(batch)
        if waiting is not None:
            waiting()
        waiting = pending
    if waiting is not None:
        waiting()
    return (time.perf_counter() - start) * count / (passes * engine.batch)


def ours(path: Path, backbone: str, sizes: list[int], options: dict[str, Any]) -> dict[str, float]:
    """Seconds of each step of ours."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        return featurize(
            path, store, backbone=backbone, patch=sizes, weights="random", **options
        ).seconds


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)}


def compare(
    path: Path,
    spots: int,
    net: Backbone,
    sizes: list[int],
    engines: dict[str, Engine],
    rounds: int,
    with_usual: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Run the contestants in turns on a slide from `write_slide`; `options` go to `featurize`."""
    count = spots * len(sizes)
    seconds: dict[str, list[float]] = {}
    steps: dict[str, dict[str, float]] = {name: {} for name in engines}
    for number in range(rounds + 1):  # the first warms everything up
        took: dict[str, float] = {}
        for name, engine in engines.items():
            took[f"forward {name}"] = forward(engine, net, count // 2)
            parts = ours(path, net.name, sizes, {**options, "engine": name})
            took[f"ours {name}"] = sum(parts.values())
            took[f"forward {name}"] += forward(engine, net, count - count // 2)
            if number:
                for step, value in parts.items():
                    steps[name][step] = steps[name].get(step, 0.0) + value
        if with_usual:
            device = next(iter(engines.values())).device
            took["usual"] = usual(path, sizes, net, device, options.get("batch_size") or 32)
        if number:
            for name, value in took.items():
                seconds.setdefault(name, []).append(value)
        rates = {name: f"{count / value:.1f}/s" for name, value in took.items()}
        print(rates, file=sys.stderr, flush=True)
    ratios: dict[str, dict[str, float]] = {}
    for name in engines:
        for label, other in (("pure forward", f"forward {name}"), ("usual way", "usual")):
            if other in seconds:
                pairs = zip(seconds[other], seconds[f"ours {name}"], strict=True)
                ratios[f"ours / {label}, {name}"] = spread([a / b for a, b in pairs])
    return {
        "backbone": net.name,
        "patch": sizes,
        "patches": count,
        "rounds": rounds,
        "patches_per_second": {
            name: spread([count / value for value in values]) for name, values in seconds.items()
        },
        "ratios": ratios,
        "share_of_time": {
            name: {step: round(value / sum(parts.values()), 3) for step, value in parts.items()}
            for name, parts in steps.items()
        },
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Cores, load, versions and the GPU's name."""
    return {
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def main() -> None:
    """Run the rounds and print ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--patch", default="64,128,256")
    parser.add_argument("--spots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="torch,openvino")
    parser.add_argument("--without-usual", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    device = pick_device("cpu")
    sizes = [int(px) for px in args.patch.split(",")]
    net = load_backbone(args.backbone, "random")
    names = args.engines.split(",")
    engines = {name: pick_engine(net, device, engine=name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.h5"
        write_slide(path, args.spots)
        found = compare(
            *(path, args.spots, net, sizes, engines),
            *(args.rounds, not args.without_usual, {"device": "cpu"}),
        )
    text = json.dumps(found | machine(device), indent=2)
    print(text)
    if args.json:
        Path(args.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
