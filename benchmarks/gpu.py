"""Stage 1 on a GPU: its speed against the backbone alone, and its embeddings against the CPU's.

    python -m benchmarks.gpu [--seconds 400] [--only mobilenet_v2,...] [--json FILE]

For every backbone (random weights) and both precisions, `benchmarks.featurize` runs on a slide with
as many spots as keep the GPU busy for some seconds; ``plain bf16`` is the backbone alone with its
weights in bf16, on a batch that lies on the GPU. `agreement` embeds the same patches in fp32 on the
CPU: the largest error of a patch relative to its embedding, and the median error relative to the
median distance between two patches. What the time does not suffice for is listed as left out.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist

from benchmarks.featurize import compare, forward, machine, write_slide
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_once
from histoboost.featurize.backbones.layers import with_layers
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.pick import pick_device, pick_engine
from histoboost.featurize.engines.torch import TorchEngine
from histoboost.featurize.loaded_once import made_once

#: Backbone, layers, patch sides in pixels, patches compared with the CPU.
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
    """Patches per second of the backbone alone, weights in bf16."""
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
    """Errors of `count` embeddings of smooth noise against the CPU's in fp32."""
    noise = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    side = net.input_px or 64
    patches = torch.nn.functional.interpolate(noise, side, mode="bicubic").clamp(0, 1)
    patches = (patches * 255).to(torch.uint8)
    there = TorchEngine(net, torch.device("cpu"), batch=count).submit(patches)()
    here = engine.submit(patches.to(engine.device))()
    error = np.linalg.norm(here - there, axis=1)
    return {
        "largest_relative_error": float((error / np.linalg.norm(there, axis=1)).max()),
        "error_over_spread": float(np.median(error) / np.median(pdist(there))),
    }


def run(
    net: Backbone,
    layers: str,
    sizes: list[int],
    compared: int,
    precision: str,
    device: torch.device,
) -> dict[str, Any]:
    """Figures of one backbone in one precision."""
    torch.cuda.reset_peak_memory_stats(device)
    settings = {"device": str(device), "precision": precision, "layers": layers}
    engine = pick_engine(net, device, engine="torch", precision=precision)
    forward(engine, net, 2 * engine.batch)
    rate = 4 * engine.batch / forward(engine, net, 4 * engine.batch)
    spots = max(engine.batch, int(rate * ROUND / len(sizes)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.h5"
        write_slide(path, spots)
        with_usual = precision == "fp32" and layers == "default"
        found = compare(path, spots, net, sizes, {"torch": engine}, 2, with_usual, settings)
    if precision == "bf16":
        found["plain_bf16_per_second"] = round(plain_rate(net, device, engine.batch), 1)
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    agreed = agreement(net, engine, compared)
    about = {"layers": layers, "precision": precision, "peak_gib": round(peak, 2)}
    return found | about | agreed


def main() -> None:
    """Run what fits into the time, the CNNs first; print and write all figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=400, help="start no case after so many")
    parser.add_argument("--only", help="backbones, separated by commas")
    parser.add_argument("--json", type=Path, help="write the figures here after every case")
    arguments = parser.parse_args()
    device = pick_device("cuda")
    wanted = arguments.only.split(",") if arguments.only else [name for name, *_ in CASES]
    record: dict[str, Any] = machine(device) | {"cases": [], "left_out": []}
    start = time.perf_counter()
    for name, layers, sizes, compared in CASES:
        if name not in wanted:
            continue
        if time.perf_counter() - start > arguments.seconds:
            record["left_out"].append([name, layers, sizes])
            continue
        with made_once():
            net = with_layers(load_once(name, "random"), layers)
            for precision in ("bf16", "fp32"):
                found = run(net, layers, sizes, compared, precision, device)
                record["cases"].append(found)
                print(json.dumps(found), file=sys.stderr, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
