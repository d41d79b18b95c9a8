"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real slides and weights beside the checkout; skips where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "mob.h5").exists():
        pytest.skip(f"real slides and weights are absent: no {folder}/data/mob.h5")
    return folder


@pytest.fixture(scope="session")
def phantom_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled phantom slides S_1..S_3 and the unlabelled S_4, 14 cell types; read only."""
    from histoboost.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom") / "phantom.h5")


@pytest.fixture(scope="session")
def tiny_net() -> str:
    """Name of a backbone that trains in a second: two convolutions with batch norm."""
    from torch import nn

    from histoboost.featurize.backbones import base, factory

    name = "tiny-net-of-the-tests"
    if name not in factory.backbone_names():

        @base.register(name)
        def tiny_net() -> base.Architecture:
            """Two convolutions, 16 numbers."""
            module = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            return base.Architecture(
                module=module, head="head", layer="pool", input_px=32, pretrained=module.state_dict
            )

    return name
