"""Engines: which one runs a backbone, and on which device."""

from __future__ import annotations

import joblib
import torch

from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.engines import openvino
from histoboost.featurize.engines.base import Engine
from histoboost.featurize.engines.torch import TorchEngine

#: Patches per forward pass: on a CPU larger batches only leave the cache, a GPU needs many.
CPU_BATCH = 16
GPU_BATCH = 256

#: Patches in a run from which the minute that `torch.compile` takes is worth while on a GPU.
COMPILE_FROM = 1_000_000


def pick_device(device: str) -> torch.device:
    """The device that ``auto|cpu|cuda|cuda:N`` means on this machine.

    Raises
    ------
    HistoboostError
        If the name is none of these, or there is no such GPU.
    """
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise BadInput(f"device {device!r}: unknown; give auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise BadInput(
                f"device {device!r}: torch sees {count} GPUs here; give --device cpu or auto"
            )
        return torch.device("cuda", int(number or 0))
    return torch.device(device)


def pick_devices(device: str) -> list[torch.device]:
    """All devices that ``--device`` means: for ``auto`` every GPU, else one."""
    if device == "auto" and torch.cuda.device_count() > 1:
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [pick_device(device)]


def limit_threads() -> int:
    """Keep PyTorch within the cores that this process may use, and return their number.

    PyTorch looks at the cores of the machine; a container or a batch job may allow fewer.
    """
    threads = min(torch.get_num_threads(), int(joblib.cpu_count()))
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
    return threads


def check_engine(
    backbone: Backbone, device: torch.device, engine: str, precision: str, views: int
) -> None:
    """Refuse what no engine, or not the one asked for, can do; costs nothing.

    Raises
    ------
    HistoboostError
        Naming the option and what it takes.
    """
    for option, value, known in (
        ("engine", engine, ("auto", "torch", "openvino")),
        ("precision", precision, ("fp32", "bf16")),
        ("views", views, (1, 8)),
    ):
        if value not in known:
            raise BadInput(f"--{option} {value}: unknown; give {' or '.join(map(str, known))}")
    if engine == "openvino":
        openvino.check(backbone, device, precision)


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
    """The engine that ``auto|torch|openvino`` means for a backbone on a device.

    ``auto`` takes OpenVINO on a CPU in fp32 where it is installed. `patches` is how many there are
    to embed in all, to judge what is worth while.
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
