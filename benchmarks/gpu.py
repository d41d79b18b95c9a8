"""Stage 1 on a GPU: speed against the backbone alone, and embeddings against those of the CPU.

    python -m benchmarks.gpu [--seconds 400] [--only mobilenet_v2,...] [--json FILE]

Runs `benchmarks.featurize` for every backbone (random weights) in bf16 and fp32, on a slide with
enough spots to keep the GPU busy for some seconds. ``plain_bf16_per_second`` is the rate of the
backbone alone with bf16 weights, on a batch in GPU memory. ``largest_relative_error`` is the
largest error of an embedding relative to its norm, against fp32 on the CPU; ``error_over_spread``
is the median error relative to the median distance between two patches. Cases that do not fit into
the time are listed as ``left_out``.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist

from benchmarks.common import machine, make_parser, names, report
from benchmarks.featurize import compare, forward
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_once
from histoboost.featurize.backbones.layers import with_layers
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import pick_device, pick_engine
from histoboost.featurize.engines.torch import TorchEngine
from histoboost.featurize.loaded_once import made_once

#: Backbone, layers, patch sizes in pixels, number of patches compared with the CPU.
CASES = [
    ("mobilenet_v2", "default", [64, 128, 256], 64),
    ("resnet50", "default", [64, 128, 256], 64),
    ("efficientnet_b0", "default", [64, 128, 256], 64),
    ("timm:vit_large_patch16_224", "default", [224], 8),
    ("timm:vit_giant_patch14_224", "default", [224], 4),
    ("mobilenet_v2", "deep", [64, 128, 256], 64),
    ("mobilenet_v2", "default", [32, 64, 128, 256, 512], 64),
    ("resnet50", "default", [512], 64),
]
#: Seconds of pure forward in a round.
ROUND = 3.0


def plain_rate(net: Backbone, device: torch.device, batch: int) -> float:
    """Patches per second of the backbone alone with bf16 weights."""
    module = copy.deepcopy(net.module).to(device, torch.bfloat16)
    module = module.to(memory_format=torch.channels_last)
    shape = (batch, 3, net.input_px or 64, net.input_px or 64)
    pixels = torch.randn(shape, device=device, dtype=torch.bfloat16)
    pixels = pixels.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for passes in (3, 10):
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            for _ in range(passes):
                module(pixels)
            torch.cuda.synchronize(device)
    return 10 * batch / (time.perf_counter() - start)


def agreement(net: Backbone, engine: Engine, count: int) -> dict[str, float]:
    """Errors of the embeddings of `count` patches of smooth noise, against fp32 on the CPU."""
    noise = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    side = net.input_px or 64
    patches = torch.nn.functional.interpolate(noise, side, mode="bicubic").clamp(0, 1)
    patches = (patches * 255).to(torch.uint8)
    expected = TorchEngine(net, torch.device("cpu"), batch=count).submit(patches)()
    embedded = engine.submit(patches.to(engine.device))()
    error = np.linalg.norm(embedded - expected, axis=1)
    return {
        "largest_relative_error": float((error / np.linalg.norm(expected, axis=1)).max()),
        "error_over_spread": float(np.median(error) / np.median(pdist(expected))),
    }


def run(
    net: Backbone,
    layers: str,
    sizes: list[int],
    compared: int,
    precision: str,
    device: torch.device,
) -> dict[str, Any]:
    """Measure one backbone in one precision."""
    torch.cuda.reset_peak_memory_stats(device)
    settings = {"device": str(device), "precision": precision, "layers": layers}
    engine = pick_engine(net, device, engine="torch", precision=precision)
    forward(engine, net, 2 * engine.batch)
    rate = 4 * engine.batch / forward(engine, net, 4 * engine.batch)
    spots = max(engine.batch, int(rate * ROUND / len(sizes)))
    with_usual = precision == "fp32" and layers == "default"
    figures = compare(spots, net, sizes, {"torch": engine}, 2, with_usual, settings)
    if precision == "bf16":
        figures["plain_bf16_per_second"] = round(plain_rate(net, device, engine.batch), 1)
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    figures |= {"layers": layers, "precision": precision, "peak_gib": round(peak, 2)}
    return figures | agreement(net, engine, compared)


def main() -> None:
    """Run the cases that fit into the time, CNNs first; print and write all figures."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=400, help="start no case after this time")
    parser.add_argument("--only", type=names, help="backbones, comma-separated")
    parser.add_argument("--json", type=Path, help="also write the figures as JSON, case by case")
    args = parser.parse_args()
    device = pick_device("cuda")
    record: dict[str, Any] = machine() | {"cases": [], "left_out": []}
    start = time.perf_counter()
    for name, layers, sizes, compared in CASES:
        if args.only and name not in args.only:
            continue
        if time.perf_counter() - start > args.seconds:
            record["left_out"].append([name, layers, sizes])
            continue
        with made_once():
            net = with_layers(load_once(name, "random"), layers)
            for precision in ("bf16", "fp32"):
                figures = run(net, layers, sizes, compared, precision, device)
                record["cases"].append(figures)
                print(json.dumps(figures), file=sys.stderr, flush=True)
                if args.json:
                    args.json.write_text(json.dumps(record, indent=2) + "\n")
    report(record, args.json)


if __name__ == "__main__":
    main()
