"""The resize for other devices is PyTorch's own on a CPU, bit for bit."""

from __future__ import annotations

import pytest
import torch

from histoboost.featurize.resize import resize_exact


@pytest.mark.parametrize("size", [1, 2, 5, 32, 63, 64, 128, 223, 225, 256, 448, 777])
@pytest.mark.parametrize("out", [7, 64, 224])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_equals_the_cpu_kernel_bit_for_bit(size: int, out: int, layout: torch.memory_format):
    noise = torch.Generator().manual_seed(size * 1000 + out)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=noise)
    pixels[1] = (pixels[1] > 250) * 255  # rare extremes
    pixels = pixels.contiguous(memory_format=layout)
    cpu = torch.nn.functional.interpolate(pixels, size=(out, out), mode="bilinear", antialias=True)
    assert torch.equal(resize_exact(pixels, out), cpu)
