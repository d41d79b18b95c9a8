"""Stain normalisation: bring slides of different laboratories to the same colours.

torchstain estimates the stains of each slide once, from tissue pixels only; the estimate is applied
to the whole slide as a lookup, an affine map and the inverse lookup. Background is left unchanged.

- ``macenko``: optical density is a mixture of two stains; the slide's stains and their strength
  are replaced by the reference's. Macenko et al., "A method for normalizing histology slides for
  quantitative analysis", ISBI 2009.
- ``reinhard``: mean and spread of each CIELAB channel become the reference's. Reinhard et al.,
  "Color transfer between images", IEEE CG&A 2001.

Both use torchstain's reference stains, so no target slide is needed and none leaks into another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, require
from histoboost.slides.images.base import Level, SlideImage, bands, coarsest
from histoboost.slides.tissue import brightest

#: Entry of each method in a recipe. The estimate for a slide is part of the digest of its pixels.
RECIPES = {
    "none": "none",
    "macenko": "macenko, torchstain's reference, tissue only",
    "reinhard": "reinhard, torchstain's reference, tissue only",
}

#: Intensity of unstained glass, and the optical density from which a pixel counts as stained, as in
#: Macenko et al. and torchstain.
GLASS = 240
DENSITY = 0.15

#: Pixels darker than this in every channel are padding, pen or folds, not stain.
BLACK = 20

#: Pixels sampled to estimate the stains, and how many of them must be tissue.
SAMPLE = 1_000_000
LEAST = 1000

#: Matrix and offset.
Affine = tuple[NDArray[np.floating], NDArray[np.floating]]

#: Optical density of every pixel value, as torchstain computes it.
DENSITY_OF = -np.log((np.arange(256, dtype=np.float32) + 1) / GLASS)


@dataclass(frozen=True)
class NormalisedImage(SlideImage):
    """An image whose pixels are normalised on reading.

    `matrix` is applied to the optical density (macenko) or the CIELAB values (reinhard) of a pixel,
    and `offset` is added.
    """

    image: SlideImage
    method: str
    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]

    @property
    def levels(self) -> tuple[Level, ...]:  # type: ignore[override]
        """Those of the image."""
        return self.image.levels

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """Those of the image."""
        return self.image.tiles

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of one level, normalised."""
        rows = np.array(self.image.read_region(level, x, y, width, height))
        step = max(1, 2**20 // max(1, rows.shape[1]))  # floats take many times the bytes
        for top in range(0, len(rows), step):
            part = rows[top : top + step]
            tissue = is_tissue(part)
            part[tissue] = self._normalise(part[tissue])
        return rows

    def _normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Normalise (n, 3) pixels of tissue."""
        matrix = np.array(self.matrix, np.float32)
        offset = np.array(self.offset, np.float32)
        if self.method == "macenko":
            density = DENSITY_OF[pixels] @ matrix.T + offset
            stained = np.clip(GLASS * np.exp(-density), 0, 255)
            return cast(NDArray[np.uint8], stained.astype(np.uint8))
        from torchstain.numpy.utils.lab2rgb import lab2rgb
        from torchstain.numpy.utils.rgb2lab import rgb2lab
        from torchstain.numpy.utils.split import lab_merge, lab_split

        lab = np.stack(lab_split(rgb2lab(pixels[:, None].astype(np.float32) / 255)), axis=-1)
        rgb = lab2rgb(lab_merge(*np.moveaxis(lab @ matrix.T + offset, -1, 0)))
        return cast(NDArray[np.uint8], (rgb[:, 0] * 255).astype(np.uint8))


def normalised(image: SlideImage, method: str, name: str) -> NormalisedImage:
    """Normalise the stains of `image` by macenko or reinhard; reads it once to estimate them.

    Refuses a slide with too little tissue or a single stain; `name` is for the message.
    """
    tissue = _tissue_sample(image)
    stained = int((DENSITY_OF[tissue] >= DENSITY).all(axis=1).sum())
    if stained < LEAST:
        raise BadInput(
            f"slide {name}: {stained} of the pixels sampled are stained tissue, too few to "
            "estimate the stains; omit --stain"
        )
    estimate = _macenko if method == "macenko" else _reinhard
    matrix, offset = estimate(tissue[:, None], name)
    # Rounded: last bits, which differ between machines, must not change the recipe.
    return NormalisedImage(
        image=image,
        method=method,
        matrix=tuple(tuple(round(float(v), 5) for v in row) for row in matrix),
        offset=tuple(round(float(v), 4) for v in offset),
    )


def check_method(method: str) -> None:
    """Refuse an unknown method, or a missing torchstain."""
    if method not in RECIPES:
        raise BadInput(f"--stain {method}: unknown; give {', '.join(RECIPES)}")
    if method != "none":
        require(f"--stain {method}", "torchstain", "stain")


def is_tissue(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether (..., 3) pixels are stained: dense in green, which both stains absorb, not black."""
    dense = DENSITY_OF[pixels[..., 1]] >= DENSITY
    return np.asarray(dense & (brightest(pixels) >= BLACK))


def _tissue_sample(image: SlideImage) -> NDArray[np.uint8]:
    """Tissue pixels on a regular grid over the slide, (n, 3)."""
    height, width = image.shape
    step = max(1, int(np.sqrt(height * width / SAMPLE)))
    level, (_, _, factor) = coarsest(image.levels, lambda one: one.downsample <= step)
    step = max(1, int(step / factor))
    found = []
    for start, rows in bands(image, level):
        # The grid starts at the slide, not at the band: the sample does not depend on band size.
        grid = rows[-start % step :: step, ::step].reshape(-1, 3)
        found.append(grid[is_tissue(grid)])
    return np.concatenate(found)


def _macenko(tissue: NDArray[np.uint8], name: str) -> Affine:
    """Linear map from concentrations in the slide's stains, scaled, to the reference's stains."""
    from torchstain.base.normalizers import MacenkoNormalizer

    reference, source = (MacenkoNormalizer(backend="numpy") for _ in range(2))
    source.fit(tissue, Io=GLASS, beta=DENSITY)
    angle = np.linalg.svd(source.HERef, compute_uv=False)
    if angle[-1] < 0.05 or not np.all(source.maxCRef > 0.01):
        raise BadInput(
            f"slide {name}: shows one stain where Macenko's method needs two; "
            "give --stain reinhard, or omit it"
        )
    strength = np.diag(reference.maxCRef / source.maxCRef)
    return reference.HERef @ strength @ np.linalg.pinv(source.HERef), np.zeros(3)


def _reinhard(tissue: NDArray[np.uint8], name: str) -> Affine:
    """Affine map of each CIELAB channel to the reference's mean and spread."""
    from torchstain.base.normalizers import ReinhardNormalizer

    reference, source = (ReinhardNormalizer(backend="numpy") for _ in range(2))
    reference.fit(_reference_tissue())
    source.fit(tissue)
    if not np.all(source.target_stds > 1e-3):
        raise BadInput(f"slide {name}: its tissue has one colour only; omit --stain")
    scale = reference.target_stds / source.target_stds
    return np.diag(scale), reference.target_means - scale * source.target_means


def _reference_tissue() -> NDArray[np.uint8]:
    """Mixtures of torchstain's reference stains, each from none to its 99th percentile."""
    from torchstain.base.normalizers import MacenkoNormalizer

    reference = MacenkoNormalizer(backend="numpy")
    levels = np.linspace(0, 1, 50)
    haematoxylin, eosin = np.meshgrid(levels, levels)
    shares = np.stack([haematoxylin.ravel(), eosin.ravel()])
    density = reference.HERef @ (reference.maxCRef[:, None] * shares)
    pixels = np.clip(GLASS * np.exp(-density.T), 0, 255).astype(np.uint8)
    return cast(NDArray[np.uint8], pixels[is_tissue(pixels)][:, None])
