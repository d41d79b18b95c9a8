"""The resize for other devices is PyTorch's own on a CPU, bit for bit, and close to Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from histoboost.featurize import patches
from histoboost.featurize.resize import FILTERS, resize_exact


def noise(size: int, out: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size * 1000 + out)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    pixels[1] = (pixels[1] > 250) * 255  # rare extremes
    return pixels


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [1, 2, 5, 32, 63, 64, 128, 223, 225, 256, 448, 777])
@pytest.mark.parametrize("out", [7, 64, 224])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_equals_the_cpu_kernel_bit_for_bit(
    interpolation: str, size: int, out: int, layout: torch.memory_format
):
    pixels = noise(size, out).contiguous(memory_format=layout)
    cpu = patches.resize(pixels, out, interpolation)
    assert torch.equal(resize_exact(pixels, out, interpolation), cpu)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(("size", "out"), [(448, 224), (256, 224), (63, 224), (777, 64)])
def test_pillow_differs_by_two_grey_levels_at_most_and_in_few_values(
    interpolation: str, size: int, out: int
):
    pixels = noise(size, out)[:1]
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    pillow = np.asarray(image.resize((out, out), Image.Resampling[interpolation.upper()]))
    ours = patches.resize(pixels, out, interpolation)[0].permute(1, 2, 0).numpy()
    apart = np.abs(ours.astype(int) - pillow)
    assert apart.max() <= 2
    assert (apart > 0).mean() < 0.01


def test_the_largest_documented_patches_are_resized():
    for interpolation, times in (("bilinear", 256), ("bicubic", 128)):
        pixels = torch.full((1, 1, times, times), 255, dtype=torch.uint8)
        assert int(resize_exact(pixels, 1, interpolation)) == 255
