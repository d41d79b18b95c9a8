"""Network: a trunk for all fields of view, a branch for coordinates, and dense layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import architecture, load_backbone
from histoboost.featurize.backbones.weights import Scaled
from histoboost.finetune.presets import Settings

#: Scale of the output layer's initial weights.
START_SCALE = 0.01


class CompositionNet(nn.Module):
    """Predicts the abundances of all cell types of a spot.

    The trunk, (B, 3, px, px) to (B, width), embeds each field of view separately.
    """

    def __init__(self, trunk: nn.Module, width: int, settings: Settings, n_types: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.freeze_batch_norm = settings.batch_norm == "frozen"
        fused = width * len(settings.patch) + settings.coords
        self.coords: nn.Module | None = None
        if (units := settings.coords) > 0:
            self.coords = nn.Sequential(
                nn.Linear(2, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU()
            )
        layers: list[nn.Module] = []
        for hidden in settings.hidden:
            layers += [nn.Dropout(settings.dropout), nn.Linear(fused, hidden), nn.ReLU()]
            fused = hidden
        layers += [nn.Dropout(settings.dropout), nn.Linear(fused, n_types)]
        self.head = nn.Sequential(*layers)

    def start_at(self, profile: Tensor) -> None:
        """Initialise the output near `profile`, (T,), the mean of the targets.

        Raw abundances are far smaller than the outputs of a fresh layer: training would spend its
        first epochs on finding their mean.
        """
        output = cast(nn.Linear, self.head[-1])
        with torch.no_grad():
            output.bias.copy_(profile)
            output.weight.mul_(START_SCALE)

    def forward(self, patches: Tensor, coords: Tensor) -> Tensor:
        """Normalised patches (B, S, 3, px, px) and scaled coordinates (B, 2) to (B, T)."""
        single = patches.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        parts = [self.trunk(single).view(len(patches), -1)]
        if self.coords is not None:
            parts.append(self.coords(coords))
        return cast(Tensor, self.head(torch.cat(parts, dim=1)))

    def train(self, mode: bool = True) -> CompositionNet:
        """Set training mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batch_norm:
            for layer in self.trunk.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self


def build(
    settings: Settings, member: int, n_types: int, *, blank: bool = False
) -> tuple[CompositionNet, Backbone]:
    """Build an untrained member of the ensemble on the CPU, and the backbone of its trunk.

    `blank`: the caller will load weights, so the initial ones are not needed.
    """
    seed, name = settings.seed + member, settings.backbones[member]
    weights = settings.weights[member if len(settings.weights) > 1 else 0]
    if blank:
        # A network that brings its own weights takes no others.
        weights = "pretrained" if architecture(name).pretrained is None else "random"
    elif weights not in ("pretrained", "random") and Path(weights).is_dir():
        weights = str(Path(weights) / f"{name}.pth")
    backbone = load_backbone(name, weights, seed=seed)
    if isinstance(backbone.module, Scaled):
        backbone = replace(backbone, module=backbone.module.network)
    if not list(backbone.module.parameters()):
        raise BadInput(
            f"backbone {backbone.name}: has no trainable weights; choose another backbone"
        )
    backbone.module.requires_grad_(True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        px = input_px(settings, backbone)
        width = backbone.module(torch.zeros(1, 3, px, px)).shape[1]
        net = CompositionNet(backbone.module, width, settings, n_types)
    return net.to(memory_format=torch.channels_last), backbone


def input_px(settings: Settings, backbone: Backbone) -> int:
    """Side that patches are resized to."""
    return settings.input_px or backbone.input_px or settings.patch[0]
