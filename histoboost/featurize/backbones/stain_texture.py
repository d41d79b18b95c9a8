"""An embedding without weights: statistics of colour, stains and texture.

For machines without a download, and as a baseline that every network should beat. Patches are not
resized, so that a nucleus keeps its size. The columns:

- red, green, blue and the densities of haematoxylin and eosin: mean, standard deviation and
  five quantiles;
- luminance, haematoxylin and eosin over a pyramid of four octaves: mean and standard deviation
  of the gradient, mean of the absolute Laplacian, and standard deviation between cells;
- haematoxylin blobs: positive and negative response to a difference of neighbouring octaves;
- how directed the gradients are (coherence of the structure tensor), per octave;
- haematoxylin, eosin and luminance in the middle, and the middle against its surround.

Densities follow A. C. Ruifrok and D. A. Johnston, "Quantification of histochemical staining by
color deconvolution", Anal. Quant. Cytol. Histol. 23 (2001): optical density times the inverse of
the matrix of stain colours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from histoboost.featurize.backbones.base import Architecture

#: Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston).
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OCTAVES = 4

#: Pixels a side that quantiles are computed from.
LATTICE = 48

#: Rec. 709 weights of red, green and blue in luminance.
LUMINANCE = (0.2126, 0.7152, 0.0722)


class StainTexture(nn.Module):
    """Colour, stain and texture statistics of patches; nothing is learned."""

    from_rgb: Tensor
    luminance: Tensor

    def __init__(self) -> None:
        super().__init__()
        stains = torch.tensor(STAINS, dtype=torch.float64)
        stains = stains / stains.norm(dim=1, keepdim=True)
        # Rows of the inverse map optical density (R, G, B) to the three densities.
        self.register_buffer("from_rgb", torch.linalg.inv(stains).T.float().contiguous())
        self.register_buffer("luminance", torch.tensor(LUMINANCE).view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, P, P) pixels in 0..1 to (B, D) statistics."""
        rgb = rgb.contiguous()
        # One grey level is added so that black has a density too.
        density = -torch.log10((rgb * 255 + 1) / 256)
        stains = torch.einsum("sc,bchw->bshw", self.from_rgb, density)[:, :2]
        grey = (rgb * self.luminance).sum(1, keepdim=True)
        maps = torch.cat([grey, stains], dim=1)
        colours = torch.cat([rgb, stains], dim=1)
        return torch.cat([_distribution(colours), _texture(maps), _centre(maps)], dim=1)


def architecture() -> Architecture:
    """Colour, stain and texture statistics; no weights, no download; 105 numbers."""
    return Architecture(
        module=StainTexture(),
        head="",
        layer="statistics",
        input_px=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        exportable=False,
    )


def _distribution(maps: Tensor) -> Tensor:
    values = maps.flatten(2)
    spread = values.std(2, correction=0)
    # Quantiles of a grid of pixels: sorting a whole large patch would dominate the cost.
    step = -(-maps.shape[2] // LATTICE)
    ordered = maps[:, :, ::step, ::step].flatten(2).sort(2).values
    last = ordered.shape[2] - 1
    ranks = [round(q * last) for q in QUANTILES]
    return torch.cat([values.mean(2), spread, ordered[:, :, ranks].flatten(1)], dim=1)


def _texture(maps: Tensor) -> Tensor:
    columns = []
    for _octave in range(OCTAVES):
        if min(maps.shape[2:]) < 3:  # too small to have texture: keep the number of columns
            width = 4 * maps.shape[1] + 2 + 2
            columns.append(maps.new_zeros(len(maps), width))
            continue
        dx = maps[:, :, 1:-1, 2:] - maps[:, :, 1:-1, :-2]
        dy = maps[:, :, 2:, 1:-1] - maps[:, :, :-2, 1:-1]
        gradient = torch.sqrt(dx * dx + dy * dy + 1e-12)
        cross = maps[:, :, 1:-1, 2:] + maps[:, :, 1:-1, :-2]
        cross = cross + maps[:, :, 2:, 1:-1] + maps[:, :, :-2, 1:-1]
        laplacian = (cross - 4 * maps[:, :, 1:-1, 1:-1]).abs()
        coarse = functional.avg_pool2d(maps, 2)
        columns += [
            gradient.mean((2, 3)),
            gradient.std((2, 3), correction=0),
            laplacian.mean((2, 3)),
            coarse.std((2, 3), correction=0),
            _blobs(maps[:, 1:2], coarse[:, 1:2]),
            _coherence(dx[:, :2], dy[:, :2]),
        ]
        maps = coarse
    return torch.cat(columns, dim=1)


def _blobs(fine: Tensor, coarse: Tensor) -> Tensor:
    """Strength of blobs of this octave that are denser, or less dense, than their surround."""
    surround = functional.interpolate(coarse, size=fine.shape[2:], mode="bilinear")
    response = fine - surround
    above = response.clamp_min(0).square().mean((2, 3)).sqrt()
    below = response.clamp_max(0).square().mean((2, 3)).sqrt()
    return torch.cat([above, below], dim=1)


def _coherence(dx: Tensor, dy: Tensor) -> Tensor:
    """Coherence of the gradients: 0 if isotropic, 1 if all are parallel."""
    xx, yy, xy = (dx * dx).mean((2, 3)), (dy * dy).mean((2, 3)), (dx * dy).mean((2, 3))
    return torch.sqrt((xx - yy).square() + 4 * xy.square() + 1e-12) / (xx + yy + 1e-6)


def _centre(maps: Tensor) -> Tensor:
    """Mean of the middle half, and its difference from the mean of the patch."""
    side = maps.shape[2]
    low = side // 4
    middle = maps[:, :, low : side - low, low : side - low].mean((2, 3))
    return torch.cat([middle, middle - maps.mean((2, 3))], dim=1)
