"""Choose the engine and the device that run a backbone."""

from __future__ import annotations

import joblib
import torch

from histoboost.errors import BadInput, require
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.engines import openvino
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.torch import TorchEngine

#: Patches per forward pass: on a CPU larger batches only leave the cache, a GPU needs many.
CPU_BATCH = 16
GPU_BATCH = 256

#: Patches in a run from which `torch.compile`, which takes a minute, pays off on a GPU.
COMPILE_FROM = 1_000_000


def pick_device(device: str) -> torch.device:
    """Resolve ``auto|cpu|cuda|cuda:N`` on this machine; refuse other names and absent GPUs."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise BadInput(f"device {device!r}: unknown; give auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device(device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise BadInput(
            f"device {device!r}: torch sees {count} GPUs here; give --device cpu or auto"
        )
    return torch.device("cuda", int(number or 0))


def pick_devices(device: str) -> list[torch.device]:
    """Resolve ``--device``: every GPU for ``auto``, else one device."""
    if device == "auto" and torch.cuda.device_count() > 1:
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [pick_device(device)]


def limit_threads() -> int:
    """Limit PyTorch to the cores this process may use, and return their number.

    PyTorch counts the cores of the machine; a container or a batch job may allow fewer.
    """
    threads = min(torch.get_num_threads(), int(joblib.cpu_count()))
    torch.set_num_threads(threads)
    return threads


def check_engine(
    backbone: Backbone, device: torch.device, engine: str, precision: str, views: int
) -> None:
    """Refuse options that the engine does not support; loads nothing."""
    for option, value, known in (
        ("engine", engine, ("auto", "torch", "openvino")),
        ("precision", precision, ("fp32", "bf16")),
        ("views", views, (1, 8)),
    ):
        if value not in known:
            raise BadInput(f"--{option} {value}: unknown; give {' or '.join(map(str, known))}")
    if engine == "openvino":
        require("--engine openvino", "openvino", "openvino")
        if why := openvino.obstacle(backbone, device, precision):
            raise BadInput(f"--engine openvino: {why}; give --engine torch")


def pick_engine(
    backbone: Backbone,
    device: torch.device,
    *,
    engine: str = "auto",
    precision: str = "fp32",
    views: int = 1,
    batch: int | None = None,
    patches: int = 0,
) -> Engine:
    """Make the engine that ``auto|torch|openvino`` selects for a backbone on a device.

    ``auto`` takes OpenVINO on a CPU in fp32 if installed. `patches`, the number in the whole run,
    decides whether compiling pays off.
    """
    check_engine(backbone, device, engine, precision, views)
    threads = limit_threads()
    if engine == "openvino" or (
        engine == "auto" and openvino.obstacle(backbone, device, precision) is None
    ):
        return openvino.OpenVinoEngine(backbone, views, batch or CPU_BATCH, threads)
    size = batch or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)
    compiled = device.type == "cuda" and patches * views >= COMPILE_FROM
    return TorchEngine(backbone, device, precision, views, size, compiled)
