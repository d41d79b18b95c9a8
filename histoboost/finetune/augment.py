"""Random augmentation of patches, drawn for every batch, on their device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from histoboost.finetune.presets import Settings

Augment = Callable[[Tensor], Tensor]


def augmentation(settings: Settings, input_px: int) -> Augment:
    """Make the augmentation of a batch of patches, (B, S, 3, px, px) uint8.

    Rotation, zoom and translation reveal the mirror image of the patch, not black corners. All
    fields of view of a spot change alike. Uses torch's global generator.
    """
    from torchvision.transforms import v2

    steps: list[torch.nn.Module] = []
    if settings.flip:
        steps += [v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)]
    if settings.rotation or settings.zoom or settings.translation:
        margin = _margin(settings, input_px)
        steps += [
            v2.Pad(margin, padding_mode="reflect"),
            v2.RandomAffine(
                degrees=settings.rotation,
                # As a fraction of the padded side.
                translate=(settings.translation * input_px / (input_px + 2 * margin),) * 2,
                scale=(1 - settings.zoom, 1 + settings.zoom),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.CenterCrop(input_px),
        ]
    if settings.brightness or settings.contrast:
        steps.append(v2.ColorJitter(brightness=settings.brightness, contrast=settings.contrast))
    if not steps:
        return lambda patches: patches
    change = v2.Compose(steps)

    def augment(patches: Tensor) -> Tensor:
        groups = torch.split(patches, settings.augment_group)
        return torch.cat([change(group) for group in groups])

    return augment


def _margin(settings: Settings, input_px: int) -> int:
    """Pixels beyond the patch that may come into view, less than one side."""
    angle = math.radians(min(settings.rotation, 45.0))
    reach = (math.cos(angle) + math.sin(angle)) / (1 - settings.zoom) / 2 + settings.translation
    return min(math.ceil((reach - 0.5) * input_px) + 1, input_px - 1)
