"""Render cells and matrix as an H&E image by the Beer-Lambert law."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from histoboost.phantom.cells import KINDS, NICHES
from histoboost.phantom.tissue import Cells, Field, Tissue, smooth_noise

#: Optical densities of haematoxylin and eosin in red, green and blue: Ruifrok and Johnston,
#: "Quantification of histochemical staining by color deconvolution", 2001.
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
#: A brown pigment (haemosiderin), by eye.
PIGMENT = (0.27, 0.57, 0.78)


def stain(
    tissue: Tissue, cells: Cells, shape: tuple[int, int], step: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Render a slide as an image (H, W, 3) uint8, with random stain, strength, light and noise.

    `shape` is the height and width of the image in pixels, `step` the pixels per cell of the grid
    of `tissue` and `cells`.
    """
    inside = _enlarge(tissue.inside, shape, step)
    nuclei, around, pigment = _stamp(cells, shape, step, tissue.um / step)
    matrix = sum(
        share * niche.eosin * (1 + 0.45 * niche.fibres * tissue.fibres)
        for niche, share in zip(NICHES, tissue.niches, strict=True)
    )
    eosin = _enlarge(matrix * (1 - 0.93 * tissue.empty), shape, step) + around
    eosin *= inside * np.exp(0.12 * smooth_noise(shape, 1.2, rng))
    # Stain, strength and thickness vary between slides and within a slide.
    thickness = np.exp(0.08 * smooth_noise(shape, shape[0] / 5, rng)).astype(np.float32)
    strength = np.exp(rng.normal(0, 0.13, 2)).astype(np.float32)
    density = np.zeros((*shape, 3), np.float32)
    for amount, vector in (
        (0.75 * strength[0] * (nuclei + 0.06 * inside), HAEMATOXYLIN),
        (0.62 * strength[1] * eosin, EOSIN),
        (0.6 * pigment, PIGMENT),
    ):
        colour = np.maximum(np.asarray(vector) + rng.normal(0, 0.03, 3), 0.01)
        colour /= np.linalg.norm(colour)
        density += (amount * thickness)[..., None] * colour.astype(np.float32)
    density = gaussian_filter(density, (0.5, 0.5, 0))
    glass = rng.uniform(0.88, 0.97) * (1 - rng.uniform(0, 0.04, 3))
    light = glass.astype(np.float32) * 10 ** -density.clip(0, 2.2)
    light = 0.05 + 0.95 * light  # stray light
    light += 0.008 * rng.standard_normal(light.shape, np.float32)
    return cast(NDArray[np.uint8], np.rint(255 * light.clip(0, 1)).astype(np.uint8))


def _enlarge(field: Field, shape: tuple[int, int], step: int) -> Field:
    large = zoom(field, step, order=1, grid_mode=True, mode="nearest")
    return cast(Field, large[: shape[0], : shape[1]])


def _stamp(
    cells: Cells, shape: tuple[int, int], step: int, um_per_px: float
) -> tuple[Field, Field, Field]:
    """Optical density of haematoxylin, eosin and pigment of the cells."""
    diameter, elongation, blue, pink, brown = (
        np.array([getattr(kind, name) for kind in KINDS], np.float32)[cells.kind]
        for name in ("diameter_um", "elongation", "haematoxylin", "eosin", "pigment")
    )
    radius = cells.size * diameter / 2 / um_per_px
    long, short = radius * np.sqrt(elongation), radius / np.sqrt(elongation)
    layers = np.zeros((3, shape[0] * shape[1]), np.float32)
    # One window size at a time, so that small nuclei do not need the windows of long ones.
    reach = np.ceil(np.maximum(long, 1.4 * radius) + 1).astype(np.intp)
    for size in np.unique(reach):
        chosen = np.nonzero(reach == size)[0]
        offset = np.arange(-size, size + 1)
        centre = cells.xy[chosen] * step - 0.5
        column = np.rint(centre[:, 0]).astype(np.intp)[:, None, None] + offset
        row = np.rint(centre[:, 1]).astype(np.intp)[:, None, None] + offset[:, None]
        dx, dy = column - centre[:, 0, None, None], row - centre[:, 1, None, None]
        cos, sin = np.cos(cells.angle[chosen]), np.sin(cells.angle[chosen])
        u = (dx * cos[:, None, None] + dy * sin[:, None, None]) / long[chosen, None, None]
        v = (dy * cos[:, None, None] - dx * sin[:, None, None]) / short[chosen, None, None]
        distance = np.sqrt(u**2 + v**2)
        soft = 1 / radius[chosen, None, None]  # the edge is about one pixel wide
        nucleus = np.clip((1 - distance) / soft + 0.5, 0, 1)
        body = np.clip((1.4 - distance) / soft + 0.5, 0, 1)
        hit = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        pixel = (row * shape[1] + column)[hit]
        parts = (blue[chosen, None, None] * nucleus, pink[chosen, None, None] * body)
        for layer, part in zip(layers, (*parts, brown[chosen, None, None] * body), strict=True):
            layer += np.bincount(pixel, part[hit], minlength=layer.size).astype(np.float32)
    # The density of overlapping nuclei saturates.
    layers = 1.8 * np.tanh(layers / 1.8)
    nuclei, around, pigment = (layer.reshape(shape) for layer in layers)
    return nuclei, around, pigment
