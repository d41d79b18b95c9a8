"""Engines: what runs a backbone on a batch of patches, and on which device.

Engines differ in speed, not in results: all stay within 1e-4 of the plain network in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Backbone

#: Patches per forward pass: on a CPU larger batches only leave the cache, a GPU needs many.
CPU_BATCH = 16
GPU_BATCH = 256

#: Patches in a run from which the minute that `torch.compile` takes is worth while on a GPU.
COMPILE_FROM = 1_000_000

#: Waits for a batch and returns its embeddings, (B, D) float32, in memory of their own.
Pending = Callable[[], NDArray[np.float32]]


class Engine(Protocol):
    """Runs a backbone batch by batch.

    Attributes
    ----------
    name : str
    device : torch.device
        Where patches are wanted.
    batch : int
        Patches per pass; may be lowered between passes where `batch_may_shrink`.
    crop_threads : int or None
        How many threads may crop while it runs; None leaves PyTorch's number.
    """

    name: str
    device: torch.device
    batch: int
    crop_threads: int | None

    def submit(self, patches: Tensor) -> Pending:
        """Begin to embed up to `batch` patches, (B, 3, px, px) uint8 on `device`."""
        ...


class DihedralMean(nn.Module):
    """Mean of a network's output over the eight flips and quarter turns of its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, D)."""
        outputs = []
        for base in (pixels, pixels.transpose(2, 3)):
            for axes in ((), (2,), (3,), (2, 3)):
                view = base.flip(axes) if axes else base
                outputs.append(self.network(view.contiguous(memory_format=torch.channels_last)))
        return torch.stack([output.float() for output in outputs]).mean(0)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy whose batch norms are part of the convolutions before them, where they follow one."""
    from torch.fx.experimental.optimization import fuse

    if not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        return module
    try:
        return fuse(module)
    except (
        torch.fx.proxy.TraceError,
        TypeError,
        RuntimeError,
        AttributeError,
        NotImplementedError,
    ):
        return module  # fx cannot follow its control flow: the same numbers, only slower


class TorchEngine:
    """The backbone in PyTorch: channels last, batch norm folded, bf16 autocast on request.

    Parameters
    ----------
    backbone : Backbone
        The network; left as it is.
    device : torch.device
    precision : {"fp32", "bf16"}
    views : {1, 8}
    batch : int, optional
    compiled : bool
        Whether to use `torch.compile`.
    """

    name = "torch"
    crop_threads: int | None = None  # on a CPU it waits while patches are cropped

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: str = "fp32",
        views: int = 1,
        batch: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.device = device
        self.batch = batch or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)
        self._autocast = precision == "bf16"
        std = torch.tensor(backbone.std).view(3, 1, 1)
        self._scale = (1 / (255 * std)).to(device)
        self._offset = (torch.tensor(backbone.mean).view(3, 1, 1) / std).to(device)
        module = fold_batch_norm(backbone.module)
        module = DihedralMean(module) if views == 8 else module
        module = module.eval().to(device).to(memory_format=torch.channels_last)
        self._module = torch.compile(module) if compiled else module
        self._buffer = torch.empty(0, device=device)
        self._copies = PinnedCopies(device) if device.type == "cuda" else None

    def submit(self, patches: Tensor) -> Pending:
        """Begin to embed up to `batch` patches, (B, 3, px, px) uint8 on `device`."""
        count = len(patches)
        # A GPU gets one shape only, so that it chooses its kernels once: the last batch of a
        # slide is padded with whatever the buffer held before.
        pixels = self._pixels(patches, self.batch if self._copies else count)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast),
        ):
            out: Tensor = self._module(pixels)[:count].float()
        if self._copies is None:
            rows = out.numpy()
            return lambda: rows
        return self._copies.begin(out)

    def _pixels(self, patches: Tensor, size: int) -> Tensor:
        """Normalised pixels, in a buffer that is used again: fresh pages cost more than the sum."""
        shape = (size, *patches.shape[1:])
        if self._buffer.shape != shape:
            empty = torch.zeros(shape, device=self.device)
            self._buffer = empty.to(memory_format=torch.channels_last)
        pixels = self._buffer[: len(patches)]
        pixels.copy_(patches).mul_(self._scale).sub_(self._offset)
        return self._buffer


class PinnedCopies:
    """Copies from a GPU into pinned memory, on a stream of their own, beside the next batch."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._device = device
        self._free: list[Tensor] = []

    def begin(self, out: Tensor) -> Pending:
        """Begin to copy `out`, (B, D) float32."""
        ring = [buffer for buffer in self._free if buffer.shape[1] == out.shape[1]]
        fitting = [buffer for buffer in ring if len(buffer) >= len(out)]
        if fitting:
            target = fitting[0]
            self._free = [buffer for buffer in self._free if buffer is not target]
        else:
            target = torch.empty(out.shape, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target[: len(out)].copy_(out, non_blocking=True)
            out.record_stream(self._stream)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)

        def wait() -> NDArray[np.float32]:
            done.synchronize()
            rows: NDArray[np.float32] = target[: len(out)].numpy().copy()
            self._free = [*self._free, target]
            return rows

        return wait


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
        from histoboost.featurize.engines import openvino as openvino_engine

        obstacle = openvino_engine.obstacle(backbone, device, precision)
        if obstacle is not None:
            raise BadInput(f"--engine openvino: {obstacle}")


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

    Parameters
    ----------
    backbone : Backbone
        The network to run.
    device : torch.device
        Where to run it.
    engine : {"auto", "torch", "openvino"}
        ``auto`` takes OpenVINO on a CPU in fp32 where it is installed.
    precision : {"fp32", "bf16"}
        bf16 is PyTorch's autocast.
    views : {1, 8}
        8 averages over flips and quarter turns.
    batch : int, optional
        Patches per pass.
    patches : int
        How many there are to embed in all, to judge what is worth while.

    Raises
    ------
    HistoboostError
        If a name is unknown, or the engine cannot do what is asked.
    """
    check_engine(backbone, device, engine, precision, views)
    threads = limit_threads()
    if engine == "openvino" or (engine == "auto" and device.type == "cpu"):
        from histoboost.featurize.engines import openvino as openvino_engine

        if openvino_engine.obstacle(backbone, device, precision) is None:
            return openvino_engine.OpenVinoEngine(backbone, views, batch or CPU_BATCH, threads)
    compiled = device.type == "cuda" and patches * views >= COMPILE_FROM
    return TorchEngine(backbone, device, precision, views, batch, compiled)
