"""The embedding without weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histoboost.errors import HistoboostError
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.backbones.stain_texture import STAINS, StainTexture


@pytest.mark.parametrize("px", [1, 2, 5, 17, 64, 131])
def test_every_patch_size_gives_the_same_columns_finite_in_float16(px: int):
    pixels = torch.rand(3, 3, px, px, generator=torch.Generator().manual_seed(0))
    pixels[:2] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)  # black and white
    out = StainTexture()(pixels)
    assert out.shape == (3, 105)
    assert torch.isfinite(out.half()).all()


def test_patches_do_not_influence_each_other():
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    module = StainTexture()
    alone = torch.cat([module(patch[None]) for patch in pixels])
    torch.testing.assert_close(module(pixels), alone)


def test_a_pure_stain_is_found_in_its_own_channel():
    stains = np.array(STAINS) / np.linalg.norm(STAINS, axis=1, keepdims=True)
    for own, other in [(0, 1), (1, 0)]:
        rgb = torch.tensor(10.0 ** -(0.5 * stains[own]), dtype=torch.float32)
        mean = StainTexture()(rgb.view(1, 3, 1, 1).expand(1, 3, 32, 32))[0, 3:5]
        assert mean[own] == pytest.approx(0.5, abs=0.02)
        assert mean[other] == pytest.approx(0.0, abs=0.02)


def test_weights_are_refused():
    assert load_backbone("stain-texture").input_px is None
    with pytest.raises(HistoboostError, match="has no weights"):
        load_backbone("stain-texture", "random")
