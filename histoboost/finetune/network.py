"""The network: one trunk for all fields of view, coordinates beside it, dense layers on top."""

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

#: Of the first outputs around the mean profile, in those of a fresh layer.
START_SCALE = 0.01


class CompositionNet(nn.Module):
    """Predicts the abundance of all cell types of a spot at once.

    Its trunk takes (B, 3, px, px) to (B, width) and embeds every field of view by itself.
    """

    def __init__(self, trunk: nn.Module, width: int, settings: Settings, n_types: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.freeze_batch_norm = settings.batch_norm == "frozen"
        fused = width * len(settings.patch)
        self.coords: nn.Module | None = None
        if settings.coords:
            width = settings.coords
            self.coords = nn.Sequential(
                nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
            )
            fused += width
        layers: list[nn.Module] = []
        for hidden in settings.hidden:
            layers += [nn.Dropout(settings.dropout), nn.Linear(fused, hidden), nn.ReLU()]
            fused = hidden
        layers += [nn.Dropout(settings.dropout), nn.Linear(fused, n_types)]
        self.head = nn.Sequential(*layers)

    def start_at(self, profile: Tensor) -> None:
        """Let the output begin around `profile`, (T,): the mean of the targets.

        Otherwise the first epochs are spent on finding it, and a short training on nothing else:
        raw abundances are far smaller than what a fresh layer puts out.
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
        """Switch to training; frozen batch norm stays in evaluation."""
        super().train(mode)
        if self.freeze_batch_norm:
            for layer in self.trunk.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self


def build(
    settings: Settings, member: int, n_types: int, *, blank: bool = False
) -> tuple[CompositionNet, Backbone]:
    """A member of the ensemble before training, on the CPU, and the backbone that is its trunk.

    `blank`: the weights will be loaded over, so those that training began with are not needed.
    """
    seed, name = settings.seed + member, settings.backbones[member]
    weights = settings.weights[member if len(settings.weights) > 1 else 0]
    if blank:
        # A network that brings its own weights has no random ones.
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
