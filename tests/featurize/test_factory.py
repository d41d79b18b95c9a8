"""Your own network, by the name of the function that builds it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from histoboost.errors import HistoboostError
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.engines.pick import check_engine, pick_engine

SOURCE = """
import torch
from torch import nn
from histoboost.featurize.backbones.base import Architecture

def net():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    return Architecture(module=module, head="none", layer="2", input_px=32, mean=(0.5,) * 3)

def branches():
    class Branches(nn.BatchNorm2d):  # fx cannot fold what it cannot trace
        def forward(self, pixels):
            pixels = super().forward(pixels)
            return pixels.mean((2, 3)) if pixels.mean() > 0 else pixels.amax((2, 3))

    return Architecture(module=Branches(3), head="none", layer="end", input_px=32)

def wrong():
    return nn.Identity()

def broken():
    raise OSError("no checkpoint\\nhere")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_net", None)


def test_a_function_in_the_current_folder_is_found_and_its_weights_identified():
    path = list(sys.path)
    net = load_backbone("own_net:net")
    assert sys.path == path
    assert (net.name, net.input_px, net.mean) == ("own_net:net", 32, (0.5, 0.5, 0.5))
    assert net.module(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert not net.module.training
    assert net.weights_digest == load_backbone("own_net:net").weights_digest
    assert net.weights_digest != load_backbone("own_net:net", seed=1).weights_digest


def test_a_network_that_branches_on_its_input_is_not_frozen_in_one_branch():
    net = load_backbone("own_net:branches")
    dark, bright = (torch.full((1, 3, 32, 32), level, dtype=torch.uint8) for level in (0, 255))
    engine = pick_engine(net, torch.device("cpu"))
    for patch in (dark, bright):
        expected = net.module((patch / 255 - 0.45) / 0.225)
        torch.testing.assert_close(
            torch.from_numpy(engine.submit(patch)()), expected, atol=0.2, rtol=0
        )
    with pytest.raises(HistoboostError, match="cannot run own_net:branches; give --engine torch"):
        check_engine(net, torch.device("cpu"), "openvino", "fp32", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent_net:net", "ModuleNotFoundError: No module named 'absent_net'"),
        ("own_net:absent", "AttributeError"),
        ("own_net:wrong", "returned Identity; return a histoboost"),
        ("own_net:broken", "OSError: no checkpoint here"),
        ("own net:x y", "unknown; give a registered name"),
    ],
)
def test_an_invalid_function_is_one_line(name: str, message: str):
    with pytest.raises(HistoboostError, match=message) as error:
        load_backbone(name)
    assert "\n" not in str(error.value)
