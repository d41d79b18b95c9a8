"""Patches of spots, cut batch by batch.

They are those of `featurize`, so that a fine-tuned network embeds what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoboost.featurize import patches
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.level import window
from histoboost.finetune.network import input_px
from histoboost.finetune.presets import Settings
from histoboost.slides.images.base import SlideImage
from histoboost.slides.slide import Slide
from histoboost.slides.tile_cache import read_pixels
from histoboost.spots import window_starts


class Resident(NamedTuple):
    """The image of a slide, its digest in recipes, and the device for its patches."""

    image: SlideImage
    digest: str
    device: torch.device


Pixels = Mapping[str, Resident]


def load_pixels(slides: Sequence[Slide], device: torch.device, px: int) -> dict[str, Resident]:
    """Open the images of slides, small ones in memory, for patches on `device`; by slide name.

    Warns of patches of `px` pixels that are one flat colour.
    """
    found = {}
    for slide in slides:
        image, digest = read_pixels(slide.image)
        found[slide.name] = Resident(image, digest, device)
        starts, flat = window_starts(slide.xy, px), 0
        for first in range(0, len(starts), 256):
            cut = torch.from_numpy(patches.crop(image, starts[first : first + 256], px))
            flat += int(patches.flat(cut.permute(0, 3, 1, 2)).sum())
        if flat:
            patches.warn_of_flat(slide.name, flat, len(starts), px)
    return found


def scaled_coords(xy: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale x and y to 0..1 over the spots of a slide; 0 if all are equal."""
    low = xy.min(0, keepdims=True)
    span = xy.max(0, keepdims=True) - low
    scaled: NDArray[np.float32] = ((xy - low) / np.where(span > 0, span, 1.0)).astype(np.float32)
    return scaled


class SpotPatches:
    """The spots of some slides, in order, with S fields of view each, normalised for `backbone`."""

    def __init__(
        self, slides: Sequence[Slide], pixels: Pixels, settings: Settings, backbone: Backbone
    ) -> None:
        self._pixels = [pixels[slide.name].image for slide in slides]
        self.device = pixels[slides[0].name].device
        self._patch = settings.patch
        self.input_px = input_px(settings, backbone)
        self._interpolation = backbone.interpolation
        self._mean, self._std = backbone.mean, backbone.std
        counts = [len(slide.xy) for slide in slides]
        self._slide = np.repeat(np.arange(len(slides)), counts)
        self._xy = np.concatenate([slide.xy for slide in slides])
        coords = np.concatenate([scaled_coords(slide.xy) for slide in slides])
        self._coords = torch.from_numpy(coords)

    def __len__(self) -> int:
        return len(self._slide)

    def crop(self, spots: NDArray[np.int64]) -> Tensor:
        """Cut the patches of the spots at positions (B,): (B, S, 3, px, px) uint8."""
        shape = (len(spots), len(self._patch), 3, self.input_px, self.input_px)
        out = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for slide in np.unique(self._slide[spots]):
            rows = np.flatnonzero(self._slide[spots] == slide)
            image = self._pixels[slide]
            for index, px in enumerate(self._patch):
                where = window(image.levels, px, self.input_px)
                starts = where.starts(self._xy[spots[rows]])
                cut = patches.crop(image, starts, where.side, where.level)
                resized = patches.resize(
                    patches.on_device(cut, self.device), self.input_px, self._interpolation
                )
                out[torch.from_numpy(rows).to(self.device), index] = resized
        return out

    def normalise(self, cropped: Tensor) -> Tensor:
        """Convert (B, S, 3, px, px) uint8 to the float32 input of the network."""
        floats = patches.normalise(cropped.flatten(0, 1), self._mean, self._std)
        return floats.view(cropped.shape)

    def coords(self, spots: NDArray[np.int64]) -> Tensor:
        """Scaled coordinates of the spots at positions (B,), (B, 2) float32."""
        return self._coords[torch.from_numpy(spots)].to(self.device)
