"""OpenVINO engine: the numbers of PyTorch, two to four times as fast on a CPU."""

from __future__ import annotations

import queue
import sys
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.layers import columns_of
from histoboost.featurize.engines.base import DihedralMean, Pending


def obstacle(backbone: Backbone, device: torch.device, precision: str) -> str | None:
    """Why OpenVINO cannot run the backbone, or None."""
    if find_spec("openvino") is None:
        return "is not installed"
    if device.type != "cpu":
        return f"runs on the CPU, not on {device}"
    if precision != "fp32":
        return f"computes in fp32 here, not in {precision}"
    if not backbone.exportable or backbone.input_px is None:
        return f"cannot run {backbone.name}"
    return None


class OpenVinoEngine:
    """Runs a backbone in OpenVINO, normalisation included; shorter batches are padded."""

    name = "openvino"
    # It computes on all cores meanwhile: a second cropping thread would only spin.
    crop_threads: int | None = 1

    def __init__(self, backbone: Backbone, views: int, batch: int, threads: int) -> None:
        # Importing OpenVINO and every conversion would report to Google Analytics, unasked, from a
        # forked process: a fork while another thread computes in OpenBLAS deadlocks.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
        from openvino.preprocess import PrePostProcessor

        assert backbone.input_px is not None
        self.device = torch.device("cpu")
        self.batch, px, module = batch, backbone.input_px, backbone.module
        if views == 8:
            module = DihedralMean(module, columns_of(backbone))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks about shapes
            model = openvino.convert_model(module, example_input=torch.zeros(1, 3, px, px))
        model.reshape([batch, 3, px, px])
        steps = PrePostProcessor(model)
        pixels = steps.input()
        pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        pixels.model().set_layout(openvino.Layout("NCHW"))
        pixels.preprocess().convert_element_type(openvino.Type.f32)
        pixels.preprocess().mean([255 * value for value in backbone.mean])
        pixels.preprocess().scale([255 * value for value in backbone.std])
        compiled = openvino.Core().compile_model(
            steps.build(),
            "CPU",
            {
                # Without this hint CPUs with AMX compute in bf16.
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(2):  # one computes while the other is filled or emptied
            self._idle.put(compiled.create_infer_request())

    def submit(self, patches: Tensor) -> Pending:
        """Start embedding up to `batch` patches, (B, 3, px, px) uint8."""
        count = len(patches)
        request = self._idle.get()
        request.get_input_tensor().data[:count] = patches.permute(0, 2, 3, 1).numpy()
        request.start_async()

        def wait() -> NDArray[np.float32]:
            request.wait()
            rows: NDArray[np.float32] = request.get_output_tensor().data[:count].copy()
            self._idle.put(request)
            return rows

        return wait
