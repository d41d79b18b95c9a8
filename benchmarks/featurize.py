"""Stage 1 against its own forward pass and the usual way to embed patches.

    python -m benchmarks.featurize    # on the CPU, torch and OpenVINO
    python -m benchmarks.gpu          # on a GPU, for small and large backbones

Three methods embed the same spots of one slide at the challenge's size. They alternate over several
rounds, so that other load on the machine affects all of them:

- ``forward``: the backbone alone on a batch in memory, with our engine; half of it before ours and
  half after, to balance drift of the machine's speed;
- ``ours``: `histoboost.featurize.featurize` from an HDF5 file to a finished store: read, crop,
  forward and write, without loading weights and building the engine;
- ``usual``: a PIL crop per patch and a torchvision transform in a DataLoader, eager fp32 NCHW,
  without reading the slide; measured on a tenth of the patches, because its rate is constant.

Ratios are given as minimum, median and maximum over rounds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.common import machine, make_parser, names, numbers, report, spread
from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import pick_device, pick_engine
from histoboost.slides.readers import open_dataset

SIDE = 2000


def write_slide(path: Path, spots: int) -> None:
    """Write a float32 slide of 2,000 x 2,000 px in the challenge's format."""
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
    """Patches as in most public solutions: a PIL crop and a transform each."""

    def __init__(self, path: Path, sizes: list[int], net: Backbone) -> None:
        from PIL import Image
        from torchvision import transforms

        slide = open_dataset(path).slides[0]
        with h5py.File(path) as file:
            pixels = (file["images/Test/S_7"][()] * 255).astype(np.uint8)
        margin = max(sizes)
        padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
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


def usual(path: Path, sizes: list[int], net: Backbone, device: torch.device) -> float:
    """Seconds of the usual way, scaled up from a tenth of the patches."""
    module = net.module.to(device)
    workers = 0 if device.type == "cpu" else (os.cpu_count() or 1)
    patches = UsualPatches(path, sizes, net)
    tenth = Subset(patches, range(0, len(patches), 10))
    start = time.perf_counter()
    with torch.no_grad():
        loader = DataLoader(tenth, batch_size=32, num_workers=workers)
        np.concatenate([module(part.to(device)).cpu().numpy() for part in loader])
    return (time.perf_counter() - start) * len(patches) / len(tenth)


def forward(engine: Engine, net: Backbone, count: int) -> float:
    """Seconds of the backbone alone on `count` patches, from a batch in memory."""
    noise = torch.Generator().manual_seed(0)
    shape = (engine.batch, net.input_px or 64, net.input_px or 64, 3)
    batch = torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise)
    batch = batch.permute(0, 3, 1, 2).to(engine.device)
    passes = -(-count // engine.batch)
    start = time.perf_counter()
    pending = engine.submit(batch)
    for _ in range(passes - 1):
        following = engine.submit(batch)
        pending()
        pending = following
    pending()
    return (time.perf_counter() - start) * count / (passes * engine.batch)


def ours(path: Path, backbone: str, sizes: list[int], options: dict[str, Any]) -> dict[str, float]:
    """Seconds of each step of `featurize`."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        return featurize(
            path, store, backbone=backbone, patch=sizes, weights="random", **options
        ).seconds


def compare(
    spots: int,
    net: Backbone,
    sizes: list[int],
    engines: dict[str, Engine],
    rounds: int,
    with_usual: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Alternate the methods on a slide from `write_slide`; `options` go to `featurize`."""
    count = spots * len(sizes)
    history: list[dict[str, float]] = []
    steps: dict[str, Counter[str]] = {name: Counter() for name in engines}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.h5"
        write_slide(path, spots)
        for number in range(rounds + 1):  # the first is a warm-up
            took: dict[str, float] = {}
            for name, engine in engines.items():
                took[f"forward {name}"] = forward(engine, net, count // 2)
                parts = ours(path, net.name, sizes, {**options, "engine": name})
                took[f"ours {name}"] = sum(parts.values())
                took[f"forward {name}"] += forward(engine, net, count - count // 2)
                if number:
                    steps[name].update(parts)
            if with_usual:
                device = next(iter(engines.values())).device
                took["usual"] = usual(path, sizes, net, device)
            history.append(took)
            rates = {name: f"{count / value:.1f}/s" for name, value in took.items()}
            print(rates, file=sys.stderr, flush=True)
    measured = history[1:]
    ratios = {
        f"ours / {label}, {name}": spread([took[other] / took[f"ours {name}"] for took in measured])
        for name in engines
        for label, other in (("pure forward", f"forward {name}"), ("usual way", "usual"))
        if other in history[0]
    }
    return {
        "backbone": net.name,
        "patch": sizes,
        "patches": count,
        "rounds": rounds,
        "patches_per_second": {
            name: spread([count / took[name] for took in measured]) for name in history[0]
        },
        "ratios": ratios,
        "share_of_time": {
            name: {step: round(value / parts.total(), 3) for step, value in parts.items()}
            for name, parts in steps.items()
        },
    }


def main() -> None:
    """Run the rounds and print the figures."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--patch", type=numbers, default="64,128,256")
    parser.add_argument("--spots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", type=names, default="torch,openvino")
    parser.add_argument("--without-usual", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    device = pick_device("cpu")
    net = load_backbone(args.backbone, "random")
    engines = {name: pick_engine(net, device, engine=name) for name in args.engines}
    figures = compare(
        *(args.spots, net, args.patch, engines, args.rounds),
        *(not args.without_usual, {"device": "cpu"}),
    )
    report(machine() | figures, args.json)


if __name__ == "__main__":
    main()
