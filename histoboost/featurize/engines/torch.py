"""PyTorch engine, for a CPU or a GPU."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.layers import columns_of
from histoboost.featurize.engines.base import DihedralMean, Pending


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Copy a network with its batch norms folded into the convolutions before them."""
    from torch.fx.experimental.optimization import fuse

    if not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        return module
    try:
        return fuse(module)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError, AttributeError):
        return module  # fx cannot follow its control flow: the same numbers, only slower


class TorchEngine:
    """Runs a backbone in PyTorch: channels last, batch norm folded, bf16 autocast on request.

    `compiled`: use `torch.compile`. The backbone itself is not modified.
    """

    name = "torch"
    crop_threads: int | None = None  # on a CPU it idles while patches are cropped

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: str = "fp32",
        views: int = 1,
        batch: int = 16,
        compiled: bool = False,
    ) -> None:
        self.device, self.batch = device, batch
        # A GPU gets one shape only, so that it selects its kernels once; leftovers in the buffer
        # pad the last batch of a slide.
        self._padded = device.type == "cuda" and backbone.input_px is not None
        self._autocast = precision == "bf16"
        std = torch.tensor(backbone.std).view(3, 1, 1)
        self._scale = (1 / (255 * std)).to(device)
        self._offset = (torch.tensor(backbone.mean).view(3, 1, 1) / std).to(device)
        module = fold_batch_norm(backbone.module)
        if module is backbone.module and device.type != "cpu":
            module = copy.deepcopy(module)  # `to` would move the backbone, too
        module = DihedralMean(module, columns_of(backbone)) if views == 8 else module
        module = module.eval().to(device).to(memory_format=torch.channels_last)
        self._module = torch.compile(module) if compiled else module
        self._buffer = torch.empty(0, device=device)
        self._copies = PinnedCopies(device) if device.type == "cuda" else None

    def submit(self, patches: Tensor) -> Pending:
        """Start embedding up to `batch` patches, (B, 3, px, px) uint8 on `device`."""
        count = len(patches)
        pixels = self._pixels(patches, self.batch if self._padded else count)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast),
            # By default cuDNN convolves float32 as TF32, with 10 bits of mantissa: fp32 must give
            # the CPU's embeddings.
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            out: Tensor = self._module(pixels)[:count].float()
        if self._copies is None:
            rows = out.numpy()
            return lambda: rows
        return self._copies.begin(out)

    def _pixels(self, patches: Tensor, size: int) -> Tensor:
        """Normalise pixels into a reused buffer: fresh pages cost more than the arithmetic."""
        shape = (size, *patches.shape[1:])
        if self._buffer.shape != shape:
            empty = torch.zeros(shape, device=self.device)
            self._buffer = empty.to(memory_format=torch.channels_last)
        pixels = self._buffer[: len(patches)]
        pixels.copy_(patches).mul_(self._scale).sub_(self._offset)
        return self._buffer


class PinnedCopies:
    """Copies from a GPU into pinned memory on a separate stream, during the next batch."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._device = device
        self._free: list[Tensor] = []

    def begin(self, out: Tensor) -> Pending:
        """Start copying `out`, (B, D) float32."""
        rows, columns = out.shape
        fits = (len(each) >= rows and each.shape[1] == columns for each in self._free)
        at = next((at for at, fit in enumerate(fits) if fit), None)
        if at is not None:
            target = self._free.pop(at)
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
            self._free.append(target)
            return rows

        return wait
